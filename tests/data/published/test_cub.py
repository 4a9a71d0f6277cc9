import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from auxilearn.data.miniature import write_cub
from auxilearn.data.published import cub_classes, read_cub
from auxilearn.errors import InputError
from image_folders import fingerprint


@pytest.fixture(scope="module")
def cub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cub")
    write_cub(folder, classes=30)
    return folder


@pytest.fixture
def mine(cub: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cub, tmp_path / "cub"))


def table(file: Path) -> dict[int, str]:
    return {int(line.split(" ")[0]): line.split(" ")[1] for line in file.read_text().splitlines()}


@pytest.mark.parametrize(("part", "flag"), [("train", "1"), ("test", "0")])
def test_it_is_what_the_lists_and_pillow_say(part: str, flag: str, cub: Path) -> None:
    before = fingerprint(cub)
    found = read_cub(cub, part, size=40)  # type: ignore[arg-type]
    base = cub / "CUB_200_2011"
    numbers = [number for number, is_train in table(base / "train_test_split.txt").items() if is_train == flag]
    labels, files = table(base / "image_class_labels.txt"), table(base / "images.txt")
    assert found.classes.tolist() == [int(labels[number]) - 1 for number in numbers]
    assert torch.equal(cub_classes(cub, part), found.classes)  # type: ignore[arg-type]
    for row in (0, 1, len(numbers) - 1):
        with Image.open(base / "images" / files[numbers[row]]) as picture:
            by_hand = np.asarray(picture.convert("RGB").resize((40, 40), Image.Resampling.BILINEAR))
        assert np.array_equal(found.pixels[row].permute(1, 2, 0).numpy(), by_hand)
    # Attributes, line by line: image, attribute, presence, certainty; then, sometimes, a 0; then the time.
    present, certainty = np.zeros((len(numbers), 312), bool), np.zeros((len(numbers), 312), int)
    rows = {number: row for row, number in enumerate(numbers)}
    odd = 0
    for line in (base / "attributes" / "image_attribute_labels.txt").read_text().splitlines():
        fields = line.split(" ")
        odd += len(fields) == 6
        if int(fields[0]) in rows:
            present[rows[int(fields[0])], int(fields[1]) - 1] = fields[2] == "1"
            certainty[rows[int(fields[0])], int(fields[1]) - 1] = int(fields[3])
    assert odd > 3
    assert found.attributes is not None
    assert found.certainty is not None
    assert np.array_equal(found.attributes.numpy(), present)
    assert np.array_equal(found.certainty.numpy(), certainty)
    assert found.names[0] == "Astronaut 0"
    assert found.attribute_names == tuple(table(cub / "attributes.txt").values())
    assert fingerprint(cub) == before


def test_attributes_tell_of_the_class(cub: Path) -> None:
    found = read_cub(cub, "train", size=8)
    assert found.attributes is not None
    assert found.certainty is not None
    assert not bool(found.attributes[found.certainty == 1].any())  # what cannot be seen is not present
    same = [(found.attributes[a] & found.attributes[b]).sum() for a in range(0, 140, 5) for b in (a + 1, (a + 7) % 150)]
    assert sum(same[::2]) > 2 * sum(same[1::2])  # two images of a class agree more than two of two classes


def test_rows_and_no_attributes(cub: Path) -> None:
    everything = read_cub(cub, "train", size=12)
    rows = torch.tensor([40, 2])
    some = read_cub(cub, "train", size=12, rows=rows)
    assert torch.equal(some.pixels, everything.pixels[rows])
    assert everything.attributes is not None
    assert torch.equal(some.attributes, everything.attributes[rows])
    bare = read_cub(cub, "train", size=12, rows=rows, attributes=False)
    assert bare.attributes is None
    assert torch.equal(bare.classes, some.classes)


@pytest.mark.parametrize("place", ["CUB_200_2011", "CUB_200_2011/attributes"])
def test_names_of_attributes_may_lie_inside(place: str, mine: Path, cub: Path) -> None:
    (mine / "attributes.txt").rename(mine / place / "attributes.txt")
    rows = torch.arange(2)
    found = read_cub(mine, "test", size=8, rows=rows)
    assert found.attribute_names == read_cub(cub, "test", size=8, rows=rows).attribute_names


def test_missing_files_are_named(mine: Path) -> None:
    (mine / "attributes.txt").unlink()
    with pytest.raises(InputError, match=r"`attributes.txt`, a part of `CUB_200_2011.tgz, MD5 97eceeb1.*nor is it ins"):
        read_cub(mine, "test", size=8)
    assert read_cub(mine, "test", size=8, attributes=False).attributes is None
    (mine / "CUB_200_2011" / "images.txt").unlink()
    with pytest.raises(InputError, match=r"`CUB_200_2011/images.txt`, a part of .* https://data.caltech.edu"):
        read_cub(mine, "test", size=8)


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("attributes/image_attribute_labels.txt", "1 1 0", "must be: image, attribute, presence, certainty"),
        ("attributes/image_attribute_labels.txt", "1 1 yes 3 2.0", "must be: image, attribute, presence, certainty"),
        ("attributes/image_attribute_labels.txt", "1 1 0 5 2.0", "The certainty goes from 1 to 5, not from 1 to 4"),
        ("attributes/image_attribute_labels.txt", "1 313 0 3 2.0", "The attribute goes from 1 to 313"),
        ("images.txt", "five path", "Each line of .*images.txt` must be a number and a value. Line 181 is 'five path'"),
        ("train_test_split.txt", "999 1", "of the same images and classes, numbered from 1. Number 999 is missing"),
        ("image_class_labels.txt", "1 31", "Number 31 is missing"),
        ("image_class_labels.txt", "1 one", "A class is no number"),
    ],
)
def test_broken_lists_are_named(file: str, line: str, message: str, mine: Path) -> None:
    path = mine / "CUB_200_2011" / file
    lines = path.read_text().splitlines()
    kept = lines[1:] if file == "image_class_labels.txt" else lines  # whose first line is that of image 1
    path.write_text("\n".join([*kept, line]) + "\n")
    with pytest.raises(InputError, match=message):
        read_cub(mine, "train", size=8)


def test_a_number_with_two_lines_is_refused(mine: Path) -> None:
    with (mine / "CUB_200_2011" / "train_test_split.txt").open("a") as stream:
        stream.write("1 0\n")
    with pytest.raises(InputError, match=r"Each number must have one line in .*train_test_split.txt`. 1 has several"):
        read_cub(mine, "train", size=8)


@pytest.mark.parametrize("lines", [0, 312 * 3])
def test_attributes_that_are_cut_short_are_refused(lines: int, mine: Path) -> None:
    file = mine / "CUB_200_2011" / "attributes" / "image_attribute_labels.txt"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:lines]))
    message = (
        f"must have a line for each image and attribute. {312 * (150 - 3)} are" if lines else "It is not: .*no data"
    )
    with pytest.raises(InputError, match=message):
        read_cub(mine, "train", size=8)
