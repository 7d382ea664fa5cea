"""Weights on disk: safetensors files that carry their configuration."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .checks import check_number, write_whole

_GROUP = 32  # numbers of a row that share a scale; one for the whole row costs a detector some tenths of AP
_SCALE = ".scale"  # ends the name of the scales of a matrix that is stored in 8 bits


def save_weights(path: str | Path, state: dict[str, Tensor], metadata: dict, bits: int = 16) -> Path:
    """Writes a state dict as one safetensors file, as of `write_whole`; `metadata` values are stored as JSON strings.

    `bits` of a floating-point number: 32 as it is, 16 half precision; 8 stores matrices as whole numbers with a scale
    for each 32 of a row, and the rest in half precision. Equal weights give equal bytes. Returns the path.
    """
    tensors = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        if bits == 8 and tensor.is_floating_point() and tensor.ndim == 2 and tensor.shape[1] % _GROUP == 0:
            tensor, tensors[name + _SCALE] = _to_int8(tensor)
        elif bits < 32 and tensor.is_floating_point():
            tensor = tensor.half()
        tensors[name] = tensor.contiguous()
    # Not save_file: when it is killed, it leaves a hidden file of a name of its own.
    return write_whole(Path(path), _sorted(save(tensors, {key: json.dumps(value) for key, value in metadata.items()})))


def _sorted(content: bytes) -> bytes:
    """A safetensors file whose header, which the library writes in random order, is sorted."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def read_weights(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict]:
    """Reads what `save_weights` wrote: the state dict in float32, and the metadata. `kind` is the metadata's "model".

    Raises FileNotFoundError for a missing file, ValueError for a damaged one, one that holds another kind of model, and
    numbers that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: train one, or restore the file from the repository")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items() if key != "format"}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name in [name for name in state if name.endswith(_SCALE)]:
            scale, matrix = state.pop(name), name.removesuffix(_SCALE)
            state[matrix] = (state[matrix].unflatten(1, (-1, _GROUP)) * scale.float()[..., None]).flatten(1)
        if bad := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
            raise ValueError(f"{bad[0]} isn't finite")
    except (SafetensorError, ValueError, KeyError, IndexError, RuntimeError) as error:  # also nested too deeply
        raise ValueError(
            f"{path} is damaged, or no checkpoint of ours ({error}): restore it, or delete it and train anew"
        ) from error
    if metadata.get("model") != kind:
        raise ValueError(
            f"{path} holds {metadata.get('model') or 'unnamed weights'}, not a {kind} checkpoint: "
            "give the path of one of that kind"
        )
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}, metadata


def _to_int8(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix [m, n] as int8, and the float16 scales [m, n / 32] of its groups."""
    groups = matrix.float().unflatten(1, (-1, _GROUP))
    scale = (groups.abs().amax(dim=-1) / 127).clamp(min=1e-7).half()
    whole = (groups / scale.float()[..., None]).round().clamp(-127, 127)
    return whole.to(torch.int8).flatten(1), scale


def described(metadata: dict, key: str, path: str | Path, low: int = 1, high: int = 4096) -> int:
    """A size in a checkpoint's metadata, which anybody may have written; ValueError, with the file, for no size."""
    try:
        return check_number(key, metadata.get(key), low, high, whole=True)
    except ValueError as error:
        raise ValueError(f"{path} doesn't describe its model ({error}): restore it, or train it anew") from error


def fill_model(model: nn.Module, state: dict[str, Tensor], path: str | Path) -> nn.Module:
    """Loads a state dict into a model of the same shape; ValueError with the file's name and the reason otherwise."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path} doesn't fit the model its metadata describes ({reason}): train it anew") from error
    return model
