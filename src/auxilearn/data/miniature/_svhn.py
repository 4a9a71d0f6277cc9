"""SVHN in small."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auxilearn._extras import require
from auxilearn.data._images import sklearn_digits
from auxilearn.data.miniature._pieces import Regions, new_folder

_SIDE, _DIGIT, _BACKGROUNDS = 32, 24, 40
_CONTRAST = 90


def write_svhn(folder: Path, *, seed: int = 0) -> None:
    """Write 1,000 training and 200 test images: handwritten digits of scikit-learn on pieces of real pictures; 3 MB.

    As published, ``X`` is (32, 32, 3, N), bytes, and ``y`` (N, 1), bytes from 1 to 10, where 10 stands for the digit 0.

    Args:
        folder: An empty folder; ``train_32x32.mat`` and ``test_32x32.mat`` are written into it.
        seed: The seed of places, colours and backgrounds.

    Raises:
        InputError: If the folder is not empty.
        MissingExtraError: If a package with pictures is not installed; the extra ``reproduce`` brings them.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_svhn(folder)
        >>> sorted(file.name for file in folder.iterdir())
        ['test_32x32.mat', 'train_32x32.mat']
    """
    io: Any = require("scipy.io", extra="reproduce")
    new_folder(folder)
    generator = torch.Generator().manual_seed(seed)
    regions = Regions(_BACKGROUNDS, generator)
    digits = sklearn_digits(side=_DIGIT)
    low, high = digits.pixels.min(), digits.pixels.max()
    strokes = (digits.pixels - low) / (high - low)  # (N, 24, 24): how much of the digit's colour a pixel has
    for name, rows in (("train", range(1000)), ("test", range(1000, 1200))):
        images = [_house_number(strokes[row], regions, generator) for row in rows]
        labels = digits.classes[rows.start : rows.stop].clone()
        labels[labels == 0] = 10
        content = {
            "X": torch.stack(images).permute(2, 3, 1, 0).numpy(),
            "y": labels.to(torch.uint8)[:, None].numpy(),
        }
        io.savemat(str(folder / f"{name}_32x32.mat"), content, do_compression=True)


def _house_number(stroke: Tensor, regions: Regions, generator: torch.Generator) -> Tensor:
    region = int(torch.randint(_BACKGROUNDS, (1,), generator=generator))
    image = regions.cut(region, _SIDE, _SIDE).float()
    top, left = (int(at) for at in torch.randint(_SIDE - _DIGIT + 1, (2,), generator=generator))
    place = image[:, top : top + _DIGIT, left : left + _DIGIT]
    tint = 30 * torch.randn(3, 1, 1, generator=generator)
    behind = place.mean()
    colour = behind + tint + (_CONTRAST if behind < 128 else -_CONTRAST)
    image[:, top : top + _DIGIT, left : left + _DIGIT] = stroke * colour + (1 - stroke) * place
    return image.round().clamp(0, 255).to(torch.uint8)
