"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def real_data() -> Path:
    """The folder of real pictures in BAVIT_DATA_DIR; the test is skipped where there is none."""
    folder = Path(os.environ.get("BAVIT_DATA_DIR", ""))
    if "BAVIT_DATA_DIR" not in os.environ or not all((folder / name).is_dir() for name in ("VOCdevkit", "coco")):
        pytest.skip("needs real pictures: set BAVIT_DATA_DIR to a folder that holds VOCdevkit and coco")
    return folder
