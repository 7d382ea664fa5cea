"""BAViT and YOLOS on a small machine: two ONNX graphs with any number of kept patches, in float32 or 8 bits.

`export` writes them and needs torch and onnx; `detector` runs them on onnxruntime, NumPy and Pillow alone.
"""
