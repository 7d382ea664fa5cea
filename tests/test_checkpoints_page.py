"""data/checkpoints/README.md, written by hand: held to the files (names, hashes, sizes, shapes) and to the stored rows."""

import json
import re

import pytest
from safetensors import safe_open

from bavit_utils.config import CHECKPOINTS, PROFILE_NAMES, get_profile
from bavit_utils.results import NOT_RUN, load_rows, short_hash
from bavit_utils.sweep import PLAIN

TEXT = (CHECKPOINTS / "README.md").read_text(encoding="utf-8")
ROWS = {line.split("`")[1]: line for line in TEXT.splitlines() if line.startswith("| `")}
PATHS = [path for path in sorted(CHECKPOINTS.glob("*.safetensors")) if "-own-" not in path.name]  # git ignores those


def described(path) -> dict:
    with safe_open(path, framework="pt") as file:
        return {key: json.loads(value) for key, value in file.metadata().items() if key != "format"}


def measured(name: str, path, **where):
    """The first stored row that was measured with a file as it is now; None where there is none."""
    rows = load_rows(name, **where)
    sources = rows.attrs["provenance"]
    made = [row for row in rows.itertuples() if short_hash(path) in sources[row.run]["checkpoints"].values()]
    return made[0] if made else None


def score(path, metadata: dict) -> str:
    """What the page says of it."""
    if metadata["model"] == "bavit":
        row = measured("table1", path)
        return row and f"token accuracy {row.accuracy:.1%} (majority {row.majority:.1%})"
    ends = {p.checkpoint("yolos").name[5:]: p for p in map(get_profile, PROFILE_NAMES)}
    profile = next(p for end, p in ends.items() if path.name.endswith(end))
    if metadata["model"] == "heads":  # rows name their detector
        detector = next(one for one in PATHS if short_hash(one) == metadata["detector"])
        row = measured(f"inside-{profile.name}", detector, method="inside-4", sparsity=0.5)
        return row and f"AP {100 * row.AP:.1f} with 50 % pruned after layer 4"
    if metadata["model"] != "yolos":
        row = measured(f"selectors-{profile.name}", path, selector=metadata["model"], sparsity=0.35)
        return row and f"AP {100 * row.AP:.1f} with 35 % pruned"
    detector = path.name.split(f"-{profile.detector_data}")[0]
    if "inside" in detector:
        row = measured(f"inside-{profile.name}", path, detector=detector, sparsity=0.0)
    else:
        row = measured(f"table2-{profile.name}", path, detector=detector, sparsity=0.0, **PLAIN)
    return row and f"AP {100 * row.AP:.1f}, AP50 {100 * row.AP50:.1f}"


def test_it_names_the_files_that_are_here():
    assert sorted(ROWS) == [path.name for path in PATHS]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_row_holds_hash_size_and_shape_of_its_file_and_the_stored_score(path):
    row, metadata = ROWS[path.name], described(path)
    assert f"| `{short_hash(path)}` |" in row and f"| {path.stat().st_size / 1e6:.1f} MB |" in row
    if metadata["model"] == "bavit":
        assert f"{metadata['depth']} blocks, {metadata['img_size']} px" in row and f"{metadata['rule']} labels" in row
    if metadata["model"] == "yolos":
        config = metadata["config"]
        assert f"{config['num_hidden_layers']} layers, {config['image_size'][0]} px" in row
        assert f"{config['num_detection_tokens']} detection tokens" in row
    assert f"| {score(path, metadata) or NOT_RUN} |" in row


def test_no_other_number_looks_like_a_score():
    rest = "\n".join(line for line in TEXT.splitlines() if not line.startswith("| `"))
    assert not re.search(r"\d\s?%|\bAP\b|\d\.\d", rest)
