from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from auxilearn.data.miniature import write_pet
from auxilearn.data.published import read_pet
from auxilearn.errors import InputError
from image_folders import fingerprint


@pytest.fixture(scope="module")
def pet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pet")
    write_pet(folder)
    return folder


def lines(folder: Path, name: str) -> list[list[str]]:
    text = (folder / "oxford-iiit-pet" / "annotations" / f"{name}.txt").read_text()
    return [line.split() for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(("part", "name"), [("train", "trainval"), ("test", "test")])
def test_it_is_what_the_lists_and_pillow_say(part: str, name: str, pet: Path) -> None:
    before = fingerprint(pet)
    found = read_pet(pet, part, size=40)  # type: ignore[arg-type]
    listed = lines(pet, name)
    assert found.classes.tolist() == [int(row[1]) - 1 for row in listed]
    for row in (0, 1, 2, 13, len(listed) - 1):  # among them one in grey and one with an alpha channel
        with Image.open(pet / "oxford-iiit-pet" / "images" / f"{listed[row][0]}.jpg") as picture:
            by_hand = np.asarray(picture.convert("RGB").resize((40, 40), Image.Resampling.BILINEAR))
        assert np.array_equal(found.pixels[row].permute(1, 2, 0).numpy(), by_hand)
    assert len(found.names) == 37
    assert fingerprint(pet) == before


@pytest.mark.parametrize(("part", "split"), [("train", "trainval"), ("test", "test")])
def test_it_is_what_torchvision_reads(part: str, split: str, pet: Path) -> None:
    transforms = torchvision.transforms.Compose(
        [torchvision.transforms.Resize((24, 24)), torchvision.transforms.PILToTensor()]
    )
    theirs = torchvision.datasets.OxfordIIITPet(str(pet), split=split, transform=transforms)
    found = read_pet(pet, part, size=24)  # type: ignore[arg-type]
    assert len(found) == len(theirs)
    for row in range(0, len(theirs), 7):
        image, label = theirs[row]
        assert torch.equal(found.pixels[row], image)
        assert found.classes[row] == label
    assert [name.title() for name in found.names] == theirs.classes


def test_odd_files_are_among_them(pet: Path) -> None:
    kinds: set[tuple[str, str | None]] = set()
    for file in (pet / "oxford-iiit-pet" / "images").iterdir():
        with Image.open(file) as picture:
            kinds.add((picture.mode, picture.format))
    assert kinds == {("RGB", "JPEG"), ("L", "JPEG"), ("RGBA", "PNG")}


def test_only_the_rows_asked_for_are_decoded(pet: Path) -> None:
    rows = torch.tensor([100, 3])
    seen: list[tuple[int, int]] = []
    found = read_pet(pet, "train", size=16, rows=rows, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 2), (2, 2)]
    everything = read_pet(pet, "train", size=16)
    assert torch.equal(found.pixels, everything.pixels[rows])
    assert found.classes.tolist() == [8, 0]
    assert found.names == everything.names


@pytest.mark.parametrize("how", ["gone", "empty", "cut short", "no image"])
def test_a_broken_image_is_named(how: str, tmp_path: Path) -> None:
    write_pet(tmp_path)
    images = tmp_path / "oxford-iiit-pet" / "images"
    row = 20
    file = images / f"{lines(tmp_path, 'trainval')[row][0]}.jpg"
    whole = file.read_bytes()
    file.unlink()
    if how != "gone":
        file.write_bytes({"empty": b"", "cut short": whole[: len(whole) // 2], "no image": b"text" * 100}[how])
    with pytest.raises(InputError, match=rf"oxford-iiit-pet/images/{file.name}` must be an image"):
        read_pet(tmp_path, "train", size=16, rows=torch.tensor([19, row, 21]))


def test_missing_lists_and_broken_lines_are_named(tmp_path: Path) -> None:
    write_pet(tmp_path)
    annotations = tmp_path / "oxford-iiit-pet" / "annotations"
    (annotations / "trainval.txt").write_text("Astronaut_0_1 1 1\n")
    with pytest.raises(
        InputError, match=r"Each line of .*trainval.txt` must be a name.* Line 1 is 'Astronaut_0_1 1 1'"
    ):
        read_pet(tmp_path, "train")
    (annotations / "test.txt").unlink()
    with pytest.raises(InputError, match=r"test.txt`, a part of `annotations.tar.gz, MD5 95a8c9"):
        read_pet(tmp_path, "train")
