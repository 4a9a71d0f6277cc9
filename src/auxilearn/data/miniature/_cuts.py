"""Cuts of a picture with its truth, enlarged to a published size, as numbered arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn._checks import count
from auxilearn._extras import require


class Region(NamedTuple):
    """A rectangle of a picture, in pixels; ends are not part of it."""

    top: int
    bottom: int
    left: int
    right: int


def write_cuts(
    folder: Path,
    layers: Mapping[str, Tensor],
    regions: Sequence[Region],
    amount: int,
    *,
    size: tuple[int, int],
    generator: torch.Generator,
) -> None:
    """Cut rectangles of the size's shape out of regions, in turn, mirror half of them, and write them.

    Colours are interpolated. The truth is not: a pixel takes that of its nearest neighbour.

    Args:
        folder: Gets a folder for each layer.
        layers: The picture's layers, shape (C, H, W), or (H, W) for classes, which keep this shape. ``image`` are
            colours; the first component of ``normal`` changes its sign in the mirror.
        regions: Where the cuts come from.
        amount: How many.
        size: Height and width of what is written, in pixels.
        generator: The source of the cuts.
    """
    numpy: Any = require("numpy", extra="reproduce")
    count("amount", amount, 1)
    for name in layers:
        (folder / name).mkdir(parents=True)
    for number in range(amount):
        region = regions[number % len(regions)]
        scale, down, right, mirrored = cast("list[float]", torch.rand(4, generator=generator).tolist())
        # The widest cut of this shape that the region holds, or down to 0.7 of it.
        widest = min(region.right - region.left, (region.bottom - region.top) * size[1] // size[0])
        width = int(widest * (0.7 + 0.3 * scale))
        height = width * size[0] // size[1]
        top = region.top + int(down * (region.bottom - region.top - height + 1))
        left = region.left + int(right * (region.right - region.left - width + 1))
        for name, layer in layers.items():
            cut = _resized(name, layer[..., top : top + height, left : left + width], size)
            if mirrored < 0.5:
                cut = cut.flip(-1)
                cut = cut * torch.tensor([-1.0, 1.0, 1.0])[:, None, None] if name == "normal" else cut
            array = cut.movedim(0, -1) if cut.dim() == 3 else cut
            numpy.save(folder / name / f"{number}.npy", array.contiguous().numpy())


def _resized(name: str, cut: Tensor, size: tuple[int, int]) -> Tensor:
    channels = cut[None] if cut.dim() == 3 else cut[None, None]
    if name == "image":
        found = functional.interpolate(channels, size, mode="bilinear", align_corners=False).clamp(0, 1)
    else:
        found = functional.interpolate(channels, size, mode="nearest")
    return found[0] if cut.dim() == 3 else found[0, 0]
