"""BAViT, reproduced: labels, the background-aware transformer, token pruning for YOLOS, and what each step costs."""
