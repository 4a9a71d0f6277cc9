"""NYUv2 and Cityscapes: what readers return, what they refuse, and what miniatures are."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from auxilearn.data.miniature import write_cityscapes, write_nyuv2
from auxilearn.data.published import CITYSCAPES_FILES, NYUV2_FILES, read_cityscapes, read_nyuv2, verify_files
from auxilearn.errors import InputError


@pytest.fixture(scope="module")
def nyuv2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "nyuv2"
    write_nyuv2(folder, train=4, test=2)
    return folder


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "cityscapes"
    write_cityscapes(folder, train=4, test=2)
    return folder


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def marks(folder: Path) -> dict[str, str]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() + str(f.stat().st_mtime_ns) for f in files}


def check_layer(found: torch.Tensor, folder: Path, size: int) -> None:
    assert len(found) == size
    for number in range(size):
        array = np.load(folder / f"{number}.npy")
        wanted = np.moveaxis(array, -1, 0) if array.ndim == 3 else array
        assert np.array_equal(found[number].numpy().astype(np.float64), wanted.astype(np.float64))


@pytest.mark.parametrize(("part", "sub", "size"), [("train", "train", 4), ("test", "val", 2)])
def test_nyuv2_is_what_the_files_hold(nyuv2, part, sub, size):
    before, told = marks(nyuv2), []
    data = read_nyuv2(nyuv2, part, progress=lambda done, of: told.append((done, of)))
    check_layer(data.images, nyuv2 / sub / "image", size)
    check_layer(data.classes, nyuv2 / sub / "label", size)
    check_layer(data.depth, nyuv2 / sub / "depth", size)
    check_layer(data.normals, nyuv2 / sub / "normal", size)
    assert data.images.dtype == data.depth.dtype == data.normals.dtype == torch.float32
    assert len(data.names) == 13
    assert told == [(n + 1, 4 * size) for n in range(4 * size)]
    assert marks(nyuv2) == before


@pytest.mark.parametrize("classes", [7, 19])
def test_cityscapes_is_what_the_files_hold(cityscapes, classes):
    before = marks(cityscapes)
    data = read_cityscapes(cityscapes, "test", classes=classes)
    check_layer(data.images, cityscapes / "val" / "image", 2)
    check_layer(data.classes, cityscapes / "val" / f"label_{classes}", 2)
    check_layer(data.depth, cityscapes / "val" / "depth", 2)
    assert data.normals is None
    assert len(data.names) == classes
    assert marks(cityscapes) == before


def test_nyuv2_takes_other_number_types(nyuv2, tmp_path):
    folder = copied(nyuv2, tmp_path)
    for file in folder.rglob("*.npy"):
        array = np.load(file)
        np.save(file, array.astype(np.int64 if file.parent.name == "label" else np.float64))
    one, other = read_nyuv2(folder, "train"), read_nyuv2(nyuv2, "train")
    assert torch.equal(one.classes, other.classes)
    assert torch.equal(one.normals, other.normals)


def test_stray_files_are_passed_over(nyuv2, tmp_path):
    folder = copied(nyuv2, tmp_path)
    (folder / "train" / "image" / ".DS_Store").write_bytes(b"")
    (folder / "train" / "image" / "notes.txt").write_bytes(b"")
    assert len(read_nyuv2(folder, "train")) == 4


@pytest.mark.parametrize("layer", ["image", "label", "depth", "normal"])
@pytest.mark.parametrize("number", [0, 2, 3])
def test_a_gap_is_named(nyuv2, tmp_path, layer, number):
    folder = copied(nyuv2, tmp_path)
    file = folder / "train" / layer / f"{number}.npy"
    file.unlink()
    with pytest.raises(InputError, match=f"{layer}/{number}.npy` is missing"):
        read_nyuv2(folder, "train")


def test_all_must_be_there_when_asked(nyuv2, cityscapes):
    with pytest.raises(InputError, match=r"all 795 .* There are 4\."):
        read_nyuv2(nyuv2, "train", complete=True)
    with pytest.raises(InputError, match=r"all 654 .* There are 2\."):
        read_nyuv2(nyuv2, "test", complete=True)
    with pytest.raises(InputError, match=r"all 2975 .* There are 4\."):
        read_cityscapes(cityscapes, "train", complete=True)


def test_a_missing_folder_is_named_with_its_address(nyuv2, cityscapes, tmp_path):
    folder = copied(nyuv2, tmp_path)
    shutil.rmtree(folder / "val" / "depth")
    with pytest.raises(InputError, match=r"val/depth.*nyuv2.zip.*dropbox"):
        read_nyuv2(folder, "train")
    with pytest.raises(InputError, match="train/image"):
        read_nyuv2(tmp_path / "nowhere", "train")
    other = Path(shutil.copytree(cityscapes, tmp_path / "cityscapes"))
    shutil.rmtree(other / "train" / "label_19")
    assert len(read_cityscapes(other, "train", classes=7)) == 4  # what is not asked for need not be there
    with pytest.raises(InputError, match=r"train/label_19.*cityscapes2.zip"):
        read_cityscapes(other, "train", classes=19)


def test_an_empty_folder_is_refused(nyuv2, tmp_path):
    folder = copied(nyuv2, tmp_path)
    for file in (folder / "val").rglob("*.npy"):
        file.unlink()
    with pytest.raises(InputError, match="There are none"):
        read_nyuv2(folder, "test")


def spoiled(layer: str, what: str, array: np.ndarray) -> np.ndarray:
    if what == "nan":
        array[5, 5] = np.nan
    elif what == "shape":
        return array[:-1]
    elif what == "axes":
        return np.moveaxis(array, -1, 0)
    elif what == "unit":
        return array * 255 + 2
    elif what == "negative":
        return array - 2
    elif what == "half":
        array[7, 7] = 0.5
    elif what == "large":
        array[7, 7] = 13
    elif what == "type":
        return array.astype(str)
    return array


@pytest.mark.parametrize(
    ("layer", "what", "message"),
    [
        ("image", "nan", "NaN or infinite"),
        ("label", "nan", "NaN or infinite"),
        ("depth", "nan", "NaN or infinite"),
        ("normal", "nan", "NaN or infinite"),
        ("image", "shape", "shape"),
        ("image", "axes", "shape"),
        ("label", "shape", "shape"),
        ("depth", "type", "type"),
        ("image", "unit", "go from"),
        ("normal", "unit", "go from"),
        ("depth", "negative", "go from"),
        ("label", "negative", "go from"),
        ("label", "large", "go from"),
        ("label", "half", "not whole"),
    ],
)
def test_a_wrong_array_is_named(nyuv2, tmp_path, layer, what, message):
    folder = copied(nyuv2, tmp_path)
    file = folder / "val" / layer / "1.npy"
    np.save(file, spoiled(layer, what, np.load(file)))
    with pytest.raises(InputError, match=f"val/{layer}/1.npy.*{message}"):
        read_nyuv2(folder, "test")


@pytest.mark.parametrize("content", [b"", b"no array at all", None])
def test_a_broken_file_is_named(cityscapes, tmp_path, content):
    folder = copied(cityscapes, tmp_path)
    file = folder / "train" / "depth" / "3.npy"
    file.write_bytes(file.read_bytes()[:1000] if content is None else content)
    with pytest.raises(InputError, match=r"train/depth/3.npy.*cannot be read"):
        read_cityscapes(folder, "train")


@pytest.mark.parametrize("bad", ["val", "validation"])
def test_parts_are_train_and_test(nyuv2, cityscapes, bad):
    with pytest.raises(InputError, match="part"):
        read_nyuv2(nyuv2, bad)
    with pytest.raises(InputError, match="part"):
        read_cityscapes(cityscapes, bad)
    with pytest.raises(InputError, match="classes"):
        read_cityscapes(cityscapes, "train", classes=13)


def test_the_folders_are_declared(nyuv2, cityscapes):
    assert {file.path for file in NYUV2_FILES} == {str(p.relative_to(nyuv2)) for p in nyuv2.glob("*/*")}
    assert {file.path for file in CITYSCAPES_FILES} == {str(p.relative_to(cityscapes)) for p in cityscapes.glob("*/*")}
    assert verify_files(nyuv2, NYUV2_FILES, data="NYUv2") == ()
