"""ShapeNet part: point clouds of 16 kinds of objects, each point with a normal and one of 50 parts."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn._checks import count, explain, one_of
from auxilearn._extras import require
from auxilearn.data.published._files import PublishedFile, require_files
from auxilearn.data.published._kinds import PointClouds
from auxilearn.errors import InputError

_ARCHIVE = "shapenetcore_partanno_segmentation_benchmark_v0_normal.zip"
_SOURCE = f"https://shapenet.cs.stanford.edu/media/{_ARCHIVE}"
_LISTS = {"train": "train", "validation": "val", "test": "test"}
_COLUMNS = 7  # x y z, the normal, the part

SHAPENET_CATEGORIES: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("Airplane", "02691156", (0, 1, 2, 3)),
    ("Bag", "02773838", (4, 5)),
    ("Cap", "02954340", (6, 7)),
    ("Car", "02958343", (8, 9, 10, 11)),
    ("Chair", "03001627", (12, 13, 14, 15)),
    ("Earphone", "03261776", (16, 17, 18)),
    ("Guitar", "03467517", (19, 20, 21)),
    ("Knife", "03624134", (22, 23)),
    ("Lamp", "03636649", (24, 25, 26, 27)),
    ("Laptop", "03642806", (28, 29)),
    ("Motorbike", "03790512", (30, 31, 32, 33, 34, 35)),
    ("Mug", "03797390", (36, 37)),
    ("Pistol", "03948459", (38, 39, 40)),
    ("Rocket", "04099429", (41, 42, 43)),
    ("Skateboard", "04225987", (44, 45, 46)),
    ("Table", "04379243", (47, 48, 49)),
)
"""Name, synset and parts of each category, in the order in which they are numbered. The parts are those that PointNet++
and its successors state; the data themselves do not list them."""

SHAPENET_FILES: tuple[PublishedFile, ...] = (
    PublishedFile("synsetoffset2category.txt", _SOURCE, of=_ARCHIVE),
    *(
        PublishedFile(f"train_test_split/shuffled_{name}_file_list.json", _SOURCE, of=_ARCHIVE)
        for name in _LISTS.values()
    ),
)
"""What must be there, besides the shapes that the three lists name. No publisher states a checksum."""

_BY_SYNSET = {synset: number for number, (_, synset, _) in enumerate(SHAPENET_CATEGORIES)}


def read_shapenet(
    folder: Path,
    part: Literal["train", "validation", "test"],
    *,
    points: int = 2048,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    rows: Sequence[int] | None = None,
) -> PointClouds:
    r"""Read the shapes of a part, as "ShapeNetCore part annotation, benchmark v0, with normals" is published.

    Every shape is centred on its mean and scaled into the unit sphere, with all its points; then so many points are
    drawn from it. A shape with fewer points has all of them, and some of them again.

    .. math:: \tilde x_i = \frac{x_i - \bar x}{\max_j \lVert x_j - \bar x \rVert}

    A shape that a list names twice is read once. One that is listed for training and elsewhere, too, does not train.

    Args:
        folder: The folder with ``synsetoffset2category.txt``; it is only read.
        part: Which of the published lists.
        points: P, points a shape.
        seed: Of the points that are drawn; each shape has numbers of its own, whatever else is read.
        progress: Is told how many shapes are read, and how many there are.
        rows: Which shapes of the list, by their place in it; None reads all.

    Returns:
        The shapes in the order of the list, or of ``rows``; normals of length 0 stay so.

    Raises:
        InputError: If a file is missing or broken, or a point has a part that its category has not.

    Example:
        >>> import tempfile
        >>> read_shapenet(Path(tempfile.mkdtemp()), "train")
        Traceback (most recent call last):
            ...
        auxilearn.errors.InputError: ShapeNet part must be in its published layout ...

    References:
        Yi et al., "A scalable active framework for region annotation in 3D shape collections", SIGGRAPH Asia 2016.
        Qi et al., "PointNet++: deep hierarchical feature learning on point sets in a metric space", NeurIPS 2017.
    """
    one_of("part", part, tuple(_LISTS))
    count("points", points, 1)
    count("seed", seed, 0)
    require_files(folder, SHAPENET_FILES, data="ShapeNet part")
    _check_categories(folder / "synsetoffset2category.txt")
    listed = _listed(folder, part)
    chosen = range(len(listed)) if rows is None else _checked_rows(rows, len(listed))
    files = [folder / listed[row][0] / f"{listed[row][1]}.txt" for row in chosen]
    require_files(
        folder,
        [PublishedFile(str(file.relative_to(folder).as_posix()), _SOURCE, of=_ARCHIVE) for file in files],
        data="ShapeNet part",
    )
    read: list[Tensor] = []
    for done, (row, file) in enumerate(zip(chosen, files, strict=True), 1):
        shape = _shape(file, SHAPENET_CATEGORIES[_BY_SYNSET[listed[row][0]]])
        # A prime apart, so that two seeds share no shape's numbers.
        generator = torch.Generator().manual_seed(seed * 1_000_003 + row)
        read.append(shape[_drawn(len(shape), points, generator)])
        if progress is not None:
            progress(done, len(files))
    cloud = torch.stack(read)
    return PointClouds(
        points=cloud[..., :3].contiguous(),
        normals=cloud[..., 3:6].contiguous(),
        parts=cloud[..., 6].long(),
        categories=torch.tensor([_BY_SYNSET[listed[row][0]] for row in chosen]),
        names=tuple(name for name, _, _ in SHAPENET_CATEGORIES),
        parts_of=tuple(parts for _, _, parts in SHAPENET_CATEGORIES),
    )


def shapenet_categories(folder: Path, part: Literal["train", "validation", "test"]) -> Tensor:
    """Read the category of every shape of a part from its list alone, to choose shapes before they are read.

    Args:
        folder: The folder with ``synsetoffset2category.txt``.
        part: Which of the published lists.

    Returns:
        Shape (N,), in the order of ``read_shapenet``.
    """
    one_of("part", part, tuple(_LISTS))
    require_files(folder, SHAPENET_FILES, data="ShapeNet part")
    return torch.tensor([_BY_SYNSET[synset] for synset, _ in _listed(folder, part)])


def _check_categories(file: Path) -> None:
    known = {(name, synset) for name, synset, _ in SHAPENET_CATEGORIES}
    for line in file.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words and tuple(words) not in known:
            rule = f"`{file}` must name the 16 published categories, each with its synset."
            raise InputError(explain(rule, f"It has the line {line!r}.", f"Get it anew from {_SOURCE}."))


def _listed(folder: Path, part: str) -> list[tuple[str, str]]:
    found = _entries(folder, part)
    if part == "train":
        elsewhere = {*_entries(folder, "validation"), *_entries(folder, "test")}
        found = [entry for entry in found if entry not in elsewhere]
    return found


def _entries(folder: Path, part: str) -> list[tuple[str, str]]:
    file = folder / "train_test_split" / f"shuffled_{_LISTS[part]}_file_list.json"
    rule = f"`{file}` must be a list of shapes, each as shape_data/<synset>/<name>."
    cure = f"Get it anew from {_SOURCE}."
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(explain(rule, f"It is no JSON: {error}.", cure)) from error
    if not isinstance(content, list) or not content:
        raise InputError(explain(rule, "It is another thing, or empty.", cure))
    found: dict[tuple[str, str], None] = {}
    for entry in cast("list[object]", content):
        words = entry.split("/") if isinstance(entry, str) else []
        if len(words) != 3 or words[1] not in _BY_SYNSET or words[2] in {"", ".", ".."}:
            raise InputError(explain(rule, f"It has the entry {entry!r}.", cure))
        found[words[1], words[2]] = None
    return list(found)


def _checked_rows(rows: Sequence[int], size: int) -> list[int]:
    found = [int(row) for row in rows]
    if not found or not all(0 <= row < size for row in found):
        rule = f"`rows` must be places in the list, from 0 to {size - 1}."
        finding = f"They go from {min(found)} to {max(found)}." if found else "There are none."
        raise InputError(explain(rule, finding, "Pass None for all."))
    return found


def _shape(file: Path, category: tuple[str, str, tuple[int, ...]]) -> Tensor:
    numpy: Any = require("numpy", extra="reproduce")
    name, _, parts = category
    rule = f"`{file}` must be a shape: in each line a point, its normal and its part, {_COLUMNS} numbers."
    cure = f"Get it anew from {_SOURCE}."
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise InputError(explain(rule, "It is empty.", cure))
    try:
        rows: Any = numpy.loadtxt(lines, dtype=numpy.float64, ndmin=2, comments=None)
    except ValueError as error:
        raise InputError(explain(rule, f"It cannot be read: {error}", cure)) from error
    shape = torch.from_numpy(rows)
    if shape.shape[1] != _COLUMNS:
        raise InputError(explain(rule, f"Its lines have {shape.shape[1]} numbers.", cure))
    if not bool(shape.isfinite().all()):
        raise InputError(explain(rule, "NaN or an infinity is among them.", cure))
    wrong = shape[:, 6][~torch.isin(shape[:, 6], torch.tensor(parts, dtype=shape.dtype))]
    if len(wrong):
        rule = f"`{file}` must have parts of the category {name}: {', '.join(map(str, parts))}."
        raise InputError(explain(rule, f"A point has the part {float(wrong[0]):g}.", cure))
    centred = shape[:, :3] - shape[:, :3].mean(0)
    radius = centred.square().sum(1).max().sqrt()
    if not radius > 0:
        raise InputError(explain(rule, "All its points are one.", cure))
    return torch.cat([centred / radius, functional.normalize(shape[:, 3:6]), shape[:, 6:]], 1).float()


def _drawn(size: int, points: int, generator: torch.Generator) -> Tensor:
    once = torch.randperm(size, generator=generator)[:points]
    return torch.cat([once, torch.randint(size, (points - len(once),), generator=generator)])
