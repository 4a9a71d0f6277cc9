from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from auxilearn.data.miniature import write_svhn
from auxilearn.data.published import read_svhn
from auxilearn.errors import InputError
from image_folders import fingerprint


@pytest.fixture(scope="module")
def svhn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("svhn")
    write_svhn(folder)
    return folder


@pytest.mark.parametrize("part", ["train", "test"])
def test_it_is_what_the_matlab_file_holds(part: str, svhn: Path) -> None:
    before = fingerprint(svhn)
    found = read_svhn(svhn, part)  # type: ignore[arg-type]
    content = scipy.io.loadmat(svhn / f"{part}_32x32.mat")
    assert content["X"].shape[:3] == (32, 32, 3)
    assert content["X"].dtype == np.uint8
    assert set(content["y"].flatten().tolist()) == set(range(1, 11))
    assert found.classes.tolist() == [label % 10 for label in content["y"][:, 0].tolist()]  # 10 is a zero
    for row in (0, 17, len(found) - 1):
        for channel in range(3):
            assert np.array_equal(found.pixels[row, channel].numpy(), content["X"][:, :, channel, row])
    assert fingerprint(svhn) == before


def test_rows_are_chosen(svhn: Path) -> None:
    everything = read_svhn(svhn, "test")
    rows = torch.tensor([5, 1])
    some = read_svhn(svhn, "test", rows=rows)
    assert torch.equal(some.pixels, everything.pixels[rows])
    assert torch.equal(some.classes, everything.classes[rows])


def test_missing_and_broken_files_are_named(svhn: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train_32x32.mat` is not there.*ufldl.*e26dedcc434d2e4c54c9b2d4a06d8373"):
        read_svhn(tmp_path, "train")
    (tmp_path / "test_32x32.mat").write_bytes((svhn / "test_32x32.mat").read_bytes())
    whole = (svhn / "train_32x32.mat").read_bytes()
    for content in (b"", b"x" * 200, whole[: len(whole) // 2]):
        (tmp_path / "train_32x32.mat").write_bytes(content)
        with pytest.raises(InputError, match=r"`train_32x32.mat` in .* It cannot be read"):
            read_svhn(tmp_path, "train")


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((32, 32, 3, 2), np.float32), [1, 2]),
        (np.zeros((31, 32, 3, 2), np.uint8), [1, 2]),
        (np.zeros((32, 32, 3, 2), np.uint8), [1, 2, 3]),
        (np.zeros((32, 32, 3, 2), np.uint8), [1, 11]),
    ],
)
def test_other_matlab_files_are_refused(x: np.ndarray, y: list[int], svhn: Path, tmp_path: Path) -> None:
    (tmp_path / "train_32x32.mat").write_bytes((svhn / "train_32x32.mat").read_bytes())
    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": x, "y": np.array(y, np.uint8)[:, None]})
    with pytest.raises(InputError, match="must be as published"):
        read_svhn(tmp_path, "test")
