import json
from pathlib import Path

import numpy
import pytest
import torch

from auxilearn.data.published import SHAPENET_CATEGORIES, read_shapenet, shapenet_categories
from auxilearn.errors import InputError

MUG, BAG = "03797390", "02773838"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train_test_split").mkdir()
    lines = "".join(f"{name}\t{synset}\n" for name, synset, _ in SHAPENET_CATEGORIES)
    (tmp_path / "synsetoffset2category.txt").write_text(lines)
    random = numpy.random.default_rng(0)
    for synset, name, parts, size in ((MUG, "a", (36, 37), 50), (BAG, "b", (4, 5), 9), (MUG, "c", (36, 37), 20)):
        (tmp_path / synset).mkdir(exist_ok=True)
        normals = random.normal(size=(size, 3))
        rows = [random.normal(size=(size, 3)) + 5, normals, random.choice(parts, size=(size, 1))]
        numpy.savetxt(tmp_path / synset / f"{name}.txt", numpy.concatenate(rows, 1), fmt="%.6f")
    split(tmp_path, "train", [(MUG, "a"), (BAG, "b"), (MUG, "a")])
    split(tmp_path, "val", [(BAG, "b")])
    split(tmp_path, "test", [(MUG, "c")])
    return tmp_path


def split(folder: Path, part: str, entries: list[tuple[str, str]]) -> None:
    content = [f"shape_data/{synset}/{name}" for synset, name in entries]
    (folder / "train_test_split" / f"shuffled_{part}_file_list.json").write_text(json.dumps(content))


def test_points_are_those_of_the_file_in_the_unit_sphere(folder: Path) -> None:
    clouds = read_shapenet(folder, "train", points=50)
    rows = numpy.loadtxt(folder / MUG / "a.txt")
    centred = rows[:, :3] - rows[:, :3].mean(0)
    wanted = centred / max(float((row**2).sum()) ** 0.5 for row in centred)
    assert len(clouds) == 1  # listed twice, read once; the bag is a validation shape
    found = clouds.points[0].double().numpy()
    nearest = [int(numpy.abs(wanted - point).sum(1).argmin()) for point in found]
    assert sorted(nearest) == list(range(50))
    assert numpy.allclose(found, wanted[nearest], atol=1e-6)
    assert clouds.parts[0].tolist() == rows[nearest, 6].astype(int).tolist()
    lengths = numpy.linalg.norm(rows[nearest, 3:6], axis=1, keepdims=True)
    assert numpy.allclose(clouds.normals[0], rows[nearest, 3:6] / lengths, atol=1e-6)
    assert clouds.names[int(clouds.categories[0])] == "Mug"


def test_fewer_points_than_wanted_are_repeated_and_more_are_thinned_out(folder: Path) -> None:
    many = read_shapenet(folder, "validation", points=30).points[0]
    assert len({tuple(point.tolist()) for point in many}) == 9
    few = read_shapenet(folder, "test", points=12).points[0]
    assert len({tuple(point.tolist()) for point in few}) == 12


def test_the_drawn_points_are_a_function_of_seed_and_shape(folder: Path) -> None:
    split(folder, "test", [(MUG, "c"), (MUG, "a")])
    told: list[tuple[int, int]] = []
    both = read_shapenet(folder, "test", points=8, seed=3, progress=lambda *done: told.append(done))
    alone = read_shapenet(folder, "test", points=8, seed=3, rows=[1])
    assert torch.equal(both.points[1], alone.points[0])
    assert not torch.equal(both.points, read_shapenet(folder, "test", points=8, seed=4).points)
    assert told == [(1, 2), (2, 2)]
    assert shapenet_categories(folder, "test").tolist() == both.categories.tolist()


def test_nothing_is_written(folder: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    read_shapenet(folder, "train", points=4)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


def test_the_table_numbers_all_fifty_parts_once() -> None:
    assert [part for _, _, parts in SHAPENET_CATEGORIES for part in parts] == list(range(50))
    assert len(SHAPENET_CATEGORIES) == 16


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 2 3 0 0 1 4", "parts of the category Mug"),
        ("1 2 3 0 0 1 36.5", "parts of the category Mug"),
        ("1 2 3 0 0 nan 36", "NaN"),
        ("1 2 3 0 0 1", "cannot be read"),
        ("1 2 3 0 0 one 36", "cannot be read"),
    ],
)
def test_a_broken_line_is_named(folder: Path, line: str, words: str) -> None:
    with (folder / MUG / "c.txt").open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(InputError, match=words) as found:
        read_shapenet(folder, "test", points=4)
    assert "c.txt" in str(found.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "is empty"), ("1 2 3 0 0 1 36\n" * 3, "are one"), ("1 2 3 36\n" * 3, "have 4 numbers")],
)
def test_a_broken_file_is_named(folder: Path, content: str, words: str) -> None:
    (folder / MUG / "c.txt").write_text(content)
    with pytest.raises(InputError, match=words):
        read_shapenet(folder, "test", points=4)


def test_a_missing_shape_is_named_before_any_is_read(folder: Path) -> None:
    split(folder, "test", [(MUG, "c"), (MUG, "gone")])
    with pytest.raises(InputError, match=f"{MUG}/gone.txt"):
        read_shapenet(folder, "test", progress=lambda *_: pytest.fail("one was read"))


@pytest.mark.parametrize("entry", ["shape_data/03797390", "shape_data/123/c", 7, "shape_data/03797390/.."])
def test_a_wrong_entry_is_shown(folder: Path, entry: object) -> None:
    file = folder / "train_test_split" / "shuffled_test_file_list.json"
    file.write_text(json.dumps([entry]))
    with pytest.raises(InputError, match="entry"):
        read_shapenet(folder, "test")


@pytest.mark.parametrize("content", ["[", "[]", "{}"])
def test_a_list_must_be_one(folder: Path, content: str) -> None:
    (folder / "train_test_split" / "shuffled_val_file_list.json").write_text(content)
    with pytest.raises(InputError, match="list of shapes"):
        read_shapenet(folder, "train")


def test_other_categories_are_refused(folder: Path) -> None:
    (folder / "synsetoffset2category.txt").write_text("Teapot\t02691156\n")
    with pytest.raises(InputError, match="Teapot"):
        read_shapenet(folder, "test")


@pytest.mark.parametrize("rows", [[], [1], [-1]])
def test_rows_must_be_in_the_list(folder: Path, rows: list[int]) -> None:
    with pytest.raises(InputError, match="rows"):
        read_shapenet(folder, "test", rows=rows)
