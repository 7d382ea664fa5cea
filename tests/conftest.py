"""Fixtures shared by the tests."""

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def tiny_world(tmp_path_factory):
    """Twenty tiny scenes to train on, two of them to choose by; random blocks; one thread; a row of log for every step.

    Gives the patch, which lasts as long as the module's tests, and the cache that holds the scenes.
    """
    import torch  # here, as not every test needs it, and it takes long

    from bavit_utils import config
    from bavit_utils.data import pretrained, sample_world
    from bavit_utils.training import loop

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setattr(sample_world, "SIZES", ((64, 64),) * 3)
        patch.setattr(config, "CACHE", cache)
        patch.setattr(pretrained, "imagenet_blocks", lambda: None)
        patch.setattr(loop, "LOG_STEPS", 1)
        sample_world.write_split(cache / "sample", "train", 20, workers=1)
        yield patch, cache


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local server in the place of the official ones, with `tmp_path / "data"` as the data folder."""
    from download_server import serving

    with serving(tmp_path / "data", monkeypatch) as server:
        yield server


@pytest.fixture
def voc(server, monkeypatch):
    """A small VOC2007 on the server: its one archive."""
    from download_server import offer_voc

    return offer_voc(server, monkeypatch)


@pytest.fixture
def real_data() -> Path:
    """The folder of real pictures in BAVIT_DATA_DIR; the test is skipped where there is none."""
    folder = Path(os.environ.get("BAVIT_DATA_DIR", ""))
    if "BAVIT_DATA_DIR" not in os.environ or not all((folder / name).is_dir() for name in ("VOCdevkit", "coco")):
        pytest.skip("needs real pictures: set BAVIT_DATA_DIR to a folder that holds VOCdevkit and coco")
    return folder


@pytest.fixture(scope="session")
def furnished(tmp_path_factory):
    """A folder with made-up data, training scenes, and random checkpoints of all profiles at tiny sizes."""
    import torch
    import workshop

    from bavit_utils.data.sample_world import ensure_train_split

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("furnished")
    workshop.furnish(root)
    with pytest.MonkeyPatch.context() as patch:
        workshop.shrink(patch)
        workshop.move_into(root, patch)
        workshop.fill_checkpoints(patch)
        ensure_train_split(20)
    return root


@pytest.fixture
def workplace(furnished, tmp_path, monkeypatch):
    """A copy of it to work in, as if it were the repository: what a command writes, no other test sees."""
    import workshop

    root = tmp_path / "repository"
    shutil.copytree(furnished, root, copy_function=os.link)  # weights are replaced, never written into
    (root / "README.md").unlink()
    shutil.copy(furnished / "README.md", root)  # this one is
    workshop.shrink(monkeypatch)
    workshop.move_into(root, monkeypatch)
    return root


@pytest.fixture(scope="session")
def edge_pair(tmp_path_factory):
    """A small BAViT and detector with wide random weights, and the folder of their graphs, in 8 bits too."""
    pytest.importorskip("onnxruntime")
    import torch

    from bavit_utils.bavit import create_bavit
    from bavit_utils.edge.export import export_pair
    from bavit_utils.yolos import create_yolos

    torch.set_num_threads(1)
    torch.manual_seed(0)
    pair = create_bavit(2, 48).eval(), create_yolos(["cat", "dog", "bird"], 64, 2, 5).eval()
    for model in pair:
        for parameter in model.parameters():  # so that equal numbers say something
            torch.nn.init.normal_(parameter, std=0.5 if parameter.ndim == 1 else 0.1)
    folder = tmp_path_factory.mktemp("edge")
    export_pair(*pair, folder, int8=True)
    return *pair, folder
