"""Classes out of few pictures: each class is a fixed region of a real picture, each image a random cut of it."""

from functools import lru_cache
from math import ceil, sqrt
from pathlib import Path
from typing import Any, cast, final

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn._checks import explain
from auxilearn._extras import require
from auxilearn.data._packages import folder as folder_of
from auxilearn.errors import InputError

_PICTURES = (
    ("skimage", "data/astronaut.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/chelsea.png"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/retina.jpg"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/hubble_deep_field.jpg"),
)
_SMALLEST = 0.8  # of a region's sides that a cut keeps
_BRIGHTNESS = 0.2
_LARGEST = 128  # pixels


@final
class Regions:
    """As many regions as there are classes, over all pictures; the first classes are of different pictures.

    Args:
        count: How many.
        generator: The source of cuts.

    Attributes:
        names: E.g. ``"coffee 3"``, shape (count,).
    """

    def __init__(self, count: int, generator: torch.Generator) -> None:
        pictures = _pictures()
        cells = ceil(count / len(pictures))
        columns = ceil(sqrt(cells))
        rows = ceil(cells / columns)
        self.names: list[str] = []
        self._regions: list[Tensor] = []
        self._generator = generator
        for number in range(count):
            cell, (name, picture) = number // len(pictures), pictures[number % len(pictures)]
            height, width = picture.shape[1] // rows, picture.shape[2] // columns
            top, left = height * (cell // columns), width * (cell % columns)
            region = picture[None, :, top : top + height, left : left + width].float()
            # The cuts are small, and shrinking large regions over and over would take seconds.
            shrink = min(1.0, _LARGEST / max(height, width))
            sides = (round(shrink * height), round(shrink * width))
            self._regions.append(functional.interpolate(region, sides, mode="bilinear", antialias=True)[0])
            self.names.append(f"{name} {cell}")

    def cut(self, number: int, height: int, width: int) -> Tensor:
        """Cut an image out: 80 to 100 % of the region's sides, mirrored or not, brighter or darker by 20 % at most.

        Args:
            number: The region's.
            height: The height, in pixels.
            width: The width, in pixels.

        Returns:
            Shape (3, height, width), bytes.
        """
        region = self._regions[number]
        scale, down, right, mirrored, light = cast("list[float]", torch.rand(5, generator=self._generator).tolist())
        kept = _SMALLEST + (1 - _SMALLEST) * scale
        h, w = max(1, round(kept * region.shape[1])), max(1, round(kept * region.shape[2]))
        top, left = int(down * (region.shape[1] - h + 1)), int(right * (region.shape[2] - w + 1))
        piece = region[None, :, top : top + h, left : left + w]
        if mirrored < 0.5:
            piece = piece.flip(-1)
        image = functional.interpolate(piece, (height, width), mode="bilinear", antialias=True)[0]
        return (image * (1 + _BRIGHTNESS * (2 * light - 1))).round().clamp(0, 255).to(torch.uint8)

    def thumbnails(self) -> Tensor:
        """Shrink every region.

        Returns:
            Shape (count, 3, 4, 4).
        """
        return torch.stack([functional.adaptive_avg_pool2d(region, 4) for region in self._regions])

    def draw(self, classes: Tensor, height: int, width: int) -> Tensor:
        """Cut an image for each entry.

        Args:
            classes: The regions' numbers, shape (N,).
            height: The height, in pixels.
            width: The width, in pixels.

        Returns:
            Shape (N, 3, height, width), bytes.
        """
        return torch.stack([self.cut(int(number), height, width) for number in classes])


def shuffled(classes: int, each: int, generator: torch.Generator) -> Tensor:
    """List every class as often as the others, in a random order.

    Args:
        classes: How many classes.
        each: How often.
        generator: The source of the order.

    Returns:
        Shape (classes · each,).
    """
    return torch.arange(classes).repeat(each)[torch.randperm(classes * each, generator=generator)]


def save(pixels: Tensor, file: Path, mode: str = "RGB") -> None:
    """Write an image as JPEG; with an alpha channel as PNG, whatever the file is called.

    Args:
        pixels: Shape (3, H, W), bytes.
        file: The file; its folder is made.
        mode: One of Pillow's: ``"RGB"``, ``"L"`` for grey, ``"RGBA"``.
    """
    transforms: Any = require("torchvision.transforms.functional", extra="reproduce")
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = transforms.to_pil_image(pixels).convert(mode)
    if mode == "RGBA":
        picture.save(file, format="PNG")
    else:
        picture.save(file, format="JPEG", quality=85)


def new_folder(folder: Path) -> Path:
    """Make a folder, or accept one that is empty.

    Args:
        folder: The folder.

    Returns:
        It.

    Raises:
        InputError: If something is in it, or it is a file.
    """
    rule = "A miniature must go into an empty folder, so that no real data are overwritten."
    if folder.exists() and not folder.is_dir():
        raise InputError(explain(rule, f"`{folder}` is a file.", "Pass another."))
    if folder.exists() and any(folder.iterdir()):
        raise InputError(explain(rule, f"There is something in `{folder}`.", "Pass another."))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@lru_cache(maxsize=1)
def _pictures() -> list[tuple[str, Tensor]]:
    image: Any = require("PIL.Image", extra="reproduce")
    transforms: Any = require("torchvision.transforms.functional", extra="reproduce")
    found: list[tuple[str, Tensor]] = []
    for package, path in _PICTURES:
        file = folder_of(package, extra="reproduce") / path
        with image.open(file) as picture:
            pixels: Tensor = transforms.pil_to_tensor(picture.convert("RGB"))
        if file.stem == "retina":  # its corners are black
            pixels = pixels[:, 250:1150, 250:1150]
        found.append((file.stem.split("_")[0], pixels))
    return found
