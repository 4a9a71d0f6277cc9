"""CUB-200-2011 in small."""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from auxilearn._checks import count
from auxilearn.data.miniature._pieces import Regions, new_folder, save

_TRAIN, _TEST, _GREY, _EXTRA = 5, 1, 150, 10_000
_TRAITS, _VALUES = 26, 12  # 312 attributes
_CERTAINTIES = ("not visible", "guessing", "probably", "definitely")
_HOW_OFTEN = (0.15, 0.15, 0.3, 0.4)
_WRONG = 0.1
_SIDES = ((60, 72), (72, 60), (54, 72))


def write_cub(folder: Path, *, seed: int = 0, classes: int = 200) -> None:
    """Write 5 training and 1 test image of each of 200 regions of real pictures, with 312 attributes each; 9 MB.

    The attributes are 26 traits of 12 values. The trait of a class is what can be seen: a random projection of its
    region's thumbnail, in twelve equally full bins over the classes. Of an image's traits, 10 % have another value. A
    certainty is drawn for each image and trait: 15 % are not visible, and then no value is present; 15 % guessed, 30 %
    probable, 40 % definite. As published, some images are grey, some lines of the attributes have a column too many,
    and ``attributes.txt`` lies beside ``CUB_200_2011``. Boxes, parts and labels of whole classes are not written.

    Args:
        folder: An empty folder; ``CUB_200_2011`` is made in it.
        seed: The seed of cuts, traits and certainties.
        classes: How many classes; fewer make a smaller miniature.

    Raises:
        InputError: If the folder is not empty.
        MissingExtraError: If a package with pictures is not installed; the extra ``reproduce`` brings them.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_cub(folder, classes=3)
        >>> (folder / "CUB_200_2011" / "images.txt").read_text().splitlines()[0]
        '1 001.Astronaut_0/Astronaut_0_0001_1.jpg'
    """
    count("classes", classes, 1)
    base = new_folder(folder) / "CUB_200_2011"
    base.mkdir()
    generator = torch.Generator().manual_seed(seed)
    regions = Regions(classes, generator)
    names = [f"{number:03}.{name.capitalize().replace(' ', '_')}" for number, name in enumerate(regions.names, 1)]
    images: list[str] = []
    owners: list[int] = []
    for number, name in enumerate(names):
        for which in range(1, _TRAIN + _TEST + 1):
            images.append(f"{name}/{name.split('.')[1]}_{which:04}_{len(images) + 1}.jpg")
            owners.append(number)
            height, width = _SIDES[which % len(_SIDES)]
            mode = "L" if len(images) % _GREY == 1 else "RGB"
            save(regions.cut(number, height, width), base / "images" / images[-1], mode)
    _write(base / "images.txt", images)
    _write(base / "classes.txt", names)
    _write(base / "image_class_labels.txt", [str(owner + 1) for owner in owners])
    _write(base / "train_test_split.txt", [str(int(n % (_TRAIN + _TEST) < _TRAIN)) for n in range(len(images))])
    values = [f"has_trait_{trait}::value_{value}" for trait in range(_TRAITS) for value in range(_VALUES)]
    _write(folder / "attributes.txt", values)
    (base / "attributes").mkdir()
    _write(base / "attributes" / "certainties.txt", list(_CERTAINTIES))
    traits = _traits(regions.thumbnails(), generator)[torch.tensor(owners)]
    _write_attributes(base / "attributes" / "image_attribute_labels.txt", traits, generator)


def _write(file: Path, values: list[str]) -> None:
    file.write_text("".join(f"{number} {value}\n" for number, value in enumerate(values, 1)), encoding="utf-8")


def _traits(thumbnails: Tensor, generator: torch.Generator) -> Tensor:
    # The value of each trait of each class, shape (classes, traits).
    shown = thumbnails.flatten(1) @ torch.randn(thumbnails[0].numel(), _TRAITS, generator=generator)
    return shown.argsort(0).argsort(0) * _VALUES // len(shown)


def _write_attributes(file: Path, traits: Tensor, generator: torch.Generator) -> None:
    # `traits`: the value of each trait of each image.
    wrong = torch.rand(traits.shape, generator=generator) < _WRONG
    values = torch.where(wrong, torch.randint(_VALUES, traits.shape, generator=generator), traits)
    weights = torch.tensor(_HOW_OFTEN).expand(values.numel(), -1)
    certainty = 1 + torch.multinomial(weights, 1, generator=generator).reshape(values.shape)
    present = torch.arange(_VALUES) == torch.where(certainty > 1, values, -1)[..., None]
    times = torch.rand(len(traits), generator=generator) * 30 + 1
    lines: list[str] = []
    for image, (shown, sure, time) in enumerate(zip(present.flatten(1).int(), certainty, times, strict=True), 1):
        columns = zip(
            cast("list[int]", shown.tolist()), cast("list[int]", sure.repeat_interleave(_VALUES).tolist()), strict=True
        )
        for attribute, (is_present, how_sure) in enumerate(columns, 1):
            extra = "0 " if len(lines) % _EXTRA == 1 else ""
            lines.append(f"{image} {attribute} {is_present} {how_sure} {extra}{float(time):.4f}\n")
    file.write_text("".join(lines), encoding="utf-8")
