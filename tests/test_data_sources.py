"""The table of sources: complete, its checksums where somebody published them, and what is unverified said to be so."""

import re
from dataclasses import FrozenInstanceError

import pytest
from torchvision.datasets.voc import DATASET_YEAR_DICT

from bavit_utils.data.sources import SOURCES


def test_the_table_is_complete_and_says_what_is_unverified():
    names = {"voc2007", "voc2012", "coco-val2017", "coco-train2017", "yolos-tiny", "vit-tiny"}
    assert SOURCES.keys() == names
    files = {file.name: file for sources in SOURCES.values() for source in sources for file in source.files}
    lengths = {"md5": 32, "sha256": 64}
    for file in files.values():
        assert file.urls[0].startswith("https://") and len(set(file.urls)) == len(file.urls) > 1
        assert file.room >= (file.size or 0)
        if file.checksum:
            algorithm, digest = file.checksum.split(":")
            assert re.fullmatch(f"[0-9a-f]{{{lengths[algorithm]}}}", digest)
        if file.packed:
            assert all(url.endswith(f"/{file.name}") for url in file.urls)
    unverified = {name for name, file in files.items() if file.checksum is None}
    assert unverified == {"yolos-tiny/config.json", "yolos-tiny/preprocessor_config.json"}
    with pytest.raises(FrozenInstanceError):
        files["val2017.zip"].size = 0


@pytest.mark.parametrize(
    ("year", "name", "which"), [("2007", "voc2007", 0), ("2007-test", "voc2007", 1), ("2012", "voc2012", 0)]
)
def test_vocs_checksums_and_first_addresses_are_torchvisions(year, name, which):
    known, file = DATASET_YEAR_DICT[year], SOURCES[name][0].files[which]
    assert (file.name, file.checksum) == (known["filename"], f"md5:{known['md5']}")
    assert known["url"] in (file.urls[0], file.urls[0].replace("https://thor", "http://host"))
