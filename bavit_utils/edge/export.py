"""BAViT and YOLOS as ONNX graphs of batch 1, in float32 and in 8 bits, which choose nothing: that is done between them.

`bavit.onnx`: `pixels` float32 [1, 3, height, width] to `foreground` [1, rows, cols]. `yolos.onnx`: `pixels` and `keep`,
int64 [kept], the kept patches' indices, from none to all, to `logits` [1, D, classes + 1] and `boxes` [1, D, 4].
To prune inside there are two others: `first.onnx`, `pixels` to `foreground` and `tokens` [1, 1 + patches + D, 192] after
the head's layers, and `rest.onnx`, these `tokens` and `keep` to `logits` and `boxes`.
Opset 18, which onnxruntime reads since its 1.14; the metadata are `Detector.meta`, each value as JSON.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor, nn
from transformers import YolosForObjectDetection

from ..inside import PatchHead
from ..packed import run_block
from ..yolos import PrunedYolos
from .on_torch import describe

OPSET = 18


class _Foreground(nn.Module):
    """BAViT with its probability, [1, rows, cols]."""

    def __init__(self, bavit: VisionTransformer):
        super().__init__()
        self.bavit = bavit

    def forward(self, pixels: Tensor) -> Tensor:
        return self.bavit(pixels).softmax(dim=-1)[..., 1].unflatten(1, self.bavit.patch_embed.grid_size)


class _Kept(nn.Module):
    """`PrunedYolos` on one picture, with what is kept as indices instead of a mask, whose count a graph can't know."""

    def __init__(self, detector: YolosForObjectDetection):
        super().__init__()
        self.detector = detector
        # Constants of the graph: positions, class and detection tokens added up, and the patches' embedding as a matrix.
        self.register_buffer("learned", PrunedYolos(detector)._learned(detector.config.image_size).detach())
        weight = detector.vit.embeddings.patch_embeddings.projection.weight
        self.register_buffer("projection", weight.detach().flatten(1).T.contiguous())

    def forward(self, pixels: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        return self.heads(self.through(self.embed(pixels, keep), 0, None))

    def embed(self, pixels: Tensor, keep: Tensor) -> Tensor:
        """Class token, kept patches, detection tokens, `[1, 1 + kept + D, C]`; pruned patches are never embedded."""
        config = self.detector.config
        size, count = config.patch_size, config.num_detection_tokens
        rows, cols = (side // size for side in config.image_size)
        patches = pixels.view(3, rows, size, cols, size).permute(1, 3, 0, 2, 4).reshape(1, rows * cols, -1)
        bias = self.detector.vit.embeddings.patch_embeddings.projection.bias
        embedded = patches.index_select(1, keep) @ self.projection + bias
        first, positions, last = self.learned.split([1, rows * cols, count], dim=1)
        return torch.cat([first, embedded + positions.index_select(1, keep), last], dim=1)

    def through(self, x: Tensor, first: int, last: int | None) -> Tensor:
        """The tokens after the layers from `first` to before `last`."""
        for layer in self.detector.vit.encoder.layer[first:last]:
            x = run_block(layer, x, _attend)
        return x

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and boxes of the detection tokens."""
        queries = self.detector.vit.layernorm(x[:, -self.detector.config.num_detection_tokens :])
        return self.detector.class_labels_classifier(queries), self.detector.bbox_predictor(queries).sigmoid()


class _First(_Kept):
    """The layers before a head, and its probability."""

    def __init__(self, detector: YolosForObjectDetection, head: PatchHead):
        super().__init__(detector)
        self.head = head

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        config = self.detector.config
        grid = tuple(side // config.patch_size for side in config.image_size)
        x = self.through(self.embed(pixels, torch.arange(grid[0] * grid[1])), 0, self.head.after_layers)
        logits = self.head(x[:, 1 : -config.num_detection_tokens])
        return logits.softmax(dim=-1)[..., 1].unflatten(1, grid), x


class _Rest(_First):
    """The layers behind it, on the kept patches' tokens."""

    def forward(self, tokens: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        count = self.detector.config.num_detection_tokens
        x = torch.cat([tokens[:, :1], tokens[:, 1:-count].index_select(1, keep), tokens[:, -count:]], dim=1)
        return self.heads(self.through(x, self.head.after_layers, None))


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2)


def export_pair(
    bavit: VisionTransformer, detector: YolosForObjectDetection, folder: str | Path, int8: bool = False
) -> list[Path]:
    """Writes both graphs, with `int8` their quantised forms too, and returns the paths; the models are in evaluation.

    Raises ImportError where onnx, onnxscript or onnxruntime is missing.
    """
    meta = describe(bavit, detector)
    small, large = (torch.zeros(1, 3, *meta[f"{network}_size"]) for network in ("bavit", "yolos"))
    front = "bavit", _Foreground(bavit), {"pixels": small}, ["foreground"]
    return _write_both(front, ("yolos", _Kept(detector), {"pixels": large}), folder, meta, int8)


def export_inside(
    detector: YolosForObjectDetection, head: PatchHead, folder: str | Path, int8: bool = False
) -> list[Path]:
    """Writes the graphs before and behind a head, as of `export_pair`."""
    config, meta = detector.config, describe(None, detector) | {"after_layers": head.after_layers}
    pixels, patches = torch.zeros(1, 3, *meta["yolos_size"]), int(np.prod(meta["grid"]))
    tokens = torch.zeros(1, 1 + patches + config.num_detection_tokens, config.hidden_size)
    front = "first", _First(detector, head), {"pixels": pixels}, ["foreground", "tokens"]
    return _write_both(front, ("rest", _Rest(detector, head), {"tokens": tokens}), folder, meta, int8)


def _write_both(front: tuple, back: tuple, folder: str | Path, meta: dict, int8: bool) -> list[Path]:
    """The graph that says what to keep, and the one that runs on any number of kept patches; in 8 bits, too."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name, module, inputs = back
    any_number = dict.fromkeys(inputs) | {"keep": {0: torch.export.Dim("kept")}}
    inputs = inputs | {"keep": torch.arange(int(np.prod(meta["grid"])) // 2)}
    graphs = (*front, None), (name, module, inputs, ["logits", "boxes"], any_number)
    paths = [_write(folder / f"{name}.onnx", *graph, meta) for name, *graph in graphs]
    return paths + ([quantise(path) for path in paths] if int8 else [])


def _write(path: Path, module: nn.Module, inputs: dict, outputs: list[str], dynamic: dict | None, meta: dict) -> Path:
    try:
        import onnx
        import onnxscript  # noqa: F401, torch's exporter needs it
    except ImportError as error:
        raise ImportError(f"{error.name} is missing: pip install .[edge]") from None
    program = torch.onnx.export(
        module.eval(), kwargs=inputs, input_names=list(inputs), output_names=outputs, opset_version=OPSET, dynamo=True,
        dynamic_shapes=dynamic, verbose=False,
    )  # fmt: skip
    model = program.model_proto
    for node in model.graph.node:
        node.ClearField("metadata_props")  # where in the code it comes from, with this machine's paths
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in meta.items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def quantise(path: Path) -> Path:
    """The graph in 8 bits, beside it as `-int8.onnx`: weights by output channel, activations as they come.

    Matrix products with weights alone: a convolution in 8 bits is one that onnxruntime's CPU lacks. What comes after the
    last norm, the heads, stays in float32.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic

    target = path.with_name(f"{path.stem}-int8.onnx")
    # Shapes are inferred first; merged into Gemm, as the optimisation would do, products lose the names below.
    quant_pre_process(path, target, skip_optimization=True)
    nodes = onnx.load(target).graph.node
    last_norm = max(i for i, node in enumerate(nodes) if node.op_type == "LayerNormalization")
    heads = [node.name for node in nodes[last_norm:]]
    quantize_dynamic(
        target, target, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
        nodes_to_exclude=heads,
    )  # fmt: skip
    return target
