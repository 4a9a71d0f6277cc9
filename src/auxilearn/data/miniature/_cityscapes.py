"""Cityscapes in small."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auxilearn._extras import require
from auxilearn.data._packages import folder as folder_of
from auxilearn.data.miniature._cuts import Region, write_cuts
from auxilearn.data.miniature._pieces import new_folder

_SIZE = (128, 256)
# Columns of the picture; what the middle shows is like what the others show.
_TRAIN, _TEST = (Region(0, 500, 0, 260), Region(0, 500, 480, 741)), (Region(0, 500, 260, 480),)
_DISTANCES = (3, 3, 3, 3, 3, 2, 2)  # of the seven bands of brightness, from dark to bright: 19 in all


def write_cityscapes(folder: Path, *, seed: int = 0, train: int = 16, test: int = 4) -> None:
    """Write cuts of one real stereo picture of a motorcycle, in MTAN's layout and size; 0.8 MB each.

    The depth is the measured disparity d, stored as Cityscapes does, (256 d + 1) / 65535, and 0 where unknown. The
    classes are made from measurements by a rule, and are not those of Cityscapes: ``label_7`` is the brightness, in
    seven bands of as many pixels each, from dark to bright; ``label_19`` divides each band by disparity in three, and
    the two brightest in two, equally again, from near to far. Without a disparity a pixel is unlabelled. Training and
    test cuts come from different columns. Files are in single precision.

    Args:
        folder: An empty folder; ``train`` and ``val`` are made in it.
        seed: The seed of the cuts.
        train: How many training images.
        test: How many test images.

    Raises:
        InputError: If the folder is not empty.
        MissingExtraError: If ``scikit-image`` is not installed; the extra ``reproduce`` brings it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_cityscapes(folder, train=1, test=1)
        >>> sorted(str(file.relative_to(folder)) for file in folder.glob("val/*/*.npy"))
        ['val/depth/0.npy', 'val/image/0.npy', 'val/label_19/0.npy', 'val/label_7/0.npy']

    References:
        Scharstein et al., "High-resolution stereo datasets with subpixel-accurate ground truth", GCPR 2014: Motorcycle.
    """
    new_folder(folder)
    numpy: Any = require("numpy", extra="reproduce")
    pictures: Any = require("PIL.Image", extra="reproduce")
    source = folder_of("skimage", extra="reproduce") / "data"
    with pictures.open(source / "motorcycle_left.png") as picture:
        colours = torch.from_numpy(numpy.array(picture.convert("RGB"))).movedim(-1, 0).float() / 255
    with numpy.load(source / "motorcycle_disp.npz") as arrays:
        disparity = torch.from_numpy(arrays["arr_0"].astype("float32"))
    bands, places = _classes(colours, disparity)
    known = disparity.isfinite()
    layers = {
        "image": colours,
        "label_7": bands.float(),
        "label_19": places.float(),
        "depth": torch.where(known, (256 * disparity + 1) / 65535, 0.0)[None],
    }
    generator = torch.Generator().manual_seed(seed)
    for part, regions, amount in (("train", _TRAIN, train), ("val", _TEST, test)):
        write_cuts(folder / part, layers, regions, amount, size=_SIZE, generator=generator)


def _classes(colours: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    known = disparity.isfinite()
    bands = torch.full(disparity.shape, -1).masked_scatter(known, _parts(colours.mean(0)[known], len(_DISTANCES)))
    places = torch.full(disparity.shape, -1)
    first = 0
    for band, number in enumerate(_DISTANCES):
        inside = bands == band
        places = places.masked_scatter(inside, first + _parts(-disparity[inside], number))
        first += number
    return bands, places


def _parts(values: Tensor, number: int) -> Tensor:
    # As many values in each part; ties go by their place.
    rank = values.argsort(stable=True).argsort()
    return rank * number // len(values)
