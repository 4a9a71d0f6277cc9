import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from auxilearn.data.miniature import write_cifar10, write_cifar100
from auxilearn.data.published import (
    CIFAR10_FILES,
    read_cifar10,
    read_cifar100,
    verify_files,
)
from auxilearn.errors import InputError
from image_folders import fingerprint


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cifar10")
    write_cifar10(folder)
    return folder


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cifar100")
    write_cifar100(folder)
    return folder


def load(file: Path) -> dict[bytes, Any]:
    return pickle.loads(file.read_bytes(), encoding="bytes")


def test_cifar10_is_what_the_pickles_hold(ten: Path) -> None:
    place = ten / "cifar-10-batches-py"
    batches = [load(place / f"data_batch_{n}") for n in range(1, 6)]
    found = read_cifar10(ten, "train")
    row = 0
    for batch in batches:
        assert set(batch) == {b"batch_label", b"labels", b"data", b"filenames"}
        assert batch[b"data"].dtype == np.uint8
        assert batch[b"data"].shape[1] == 3072
        for label, flat in zip(batch[b"labels"], batch[b"data"], strict=True):
            # Published: 1024 reds, 1024 greens, 1024 blues, each row by row.
            if row % 50 == 0:
                assert found.pixels[row, 1, 3, 7] == flat[1024 + 3 * 32 + 7]
                assert np.array_equal(found.pixels[row].flatten().numpy(), flat)
            assert found.classes[row] == label
            row += 1
    assert row == len(found)
    assert found.names == tuple(name.decode() for name in load(place / "batches.meta")[b"label_names"])


def test_cifar100_has_fine_classes_and_the_rows_asked_for(hundred: Path) -> None:
    content = load(hundred / "cifar-100-python" / "test")
    rows = torch.tensor([7, 3, 3])
    seen: list[tuple[int, int]] = []
    found = read_cifar100(hundred, "test", rows=rows, progress=lambda done, of: seen.append((done, of)))
    assert found.classes.tolist() == [content[b"fine_labels"][n] for n in (7, 3, 3)]
    assert np.array_equal(found.pixels[1].flatten().numpy(), content[b"data"][3])
    assert len(found.names) == 100
    assert seen == [(3, 3)]
    with pytest.raises(InputError, match=r"`rows` must be between 0 and 499. They go from 0 to 500"):
        read_cifar100(hundred, "test", rows=torch.tensor([0, 500]))


def test_reading_leaves_the_folder_as_it_is(ten: Path) -> None:
    before = fingerprint(ten)
    read_cifar10(ten, "train")
    assert fingerprint(ten) == before


def test_a_missing_batch_is_named_with_its_address_and_checksum(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(InputError, match=r"data_batch_4`, a part of `cifar-10-python.tar.gz`.*MD5 634d18415352ddfa8"):
        read_cifar10(tmp_path, "test")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8)}, 2),
        pickle.dumps({"data": np.zeros((2, 3071), np.uint8), "labels": [0, 0]}, 2),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 0, 0]}, 2),
        pickle.dumps({"data": np.zeros((2, 3072), np.float32), "labels": [0, 0]}, 2),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}, 2),
    ],
)
def test_a_broken_batch_is_refused(content: bytes, ten: Path, tmp_path: Path) -> None:
    place = tmp_path / "cifar-10-batches-py"
    place.mkdir()
    for file in (ten / "cifar-10-batches-py").iterdir():
        (place / file.name).write_bytes(content if file.name == "test_batch" else file.read_bytes())
    with pytest.raises(InputError, match=r"CIFAR10 in .* must be as published"):
        read_cifar10(tmp_path, "test")


def test_a_miniature_is_not_mistaken_for_the_published_files(ten: Path) -> None:
    with pytest.raises(InputError, match="must be the published file"):
        verify_files(ten, CIFAR10_FILES, data="CIFAR-10")


def test_the_checksums_are_those_of_torchvision() -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    kind = datasets.CIFAR10
    stated = dict([*kind.train_list, *kind.test_list]) | {kind.meta["filename"]: kind.meta["md5"]}
    assert {file.path.split("/")[1]: file.md5 for file in CIFAR10_FILES} == stated
