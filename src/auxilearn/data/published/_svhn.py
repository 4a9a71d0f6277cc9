"""SVHN, cropped digits, as MATLAB files."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from auxilearn._checks import explain, one_of
from auxilearn._extras import require
from auxilearn.data.published._files import PublishedFile, require_files
from auxilearn.data.published._kinds import ClassifiedImages
from auxilearn.data.published._stacked import Progress, chosen
from auxilearn.errors import InputError

_SITE = "http://ufldl.stanford.edu/housenumbers/"

SVHN_FILES = (
    PublishedFile("train_32x32.mat", f"{_SITE}train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
    PublishedFile("test_32x32.mat", f"{_SITE}test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
)
"""Files that :func:`read_svhn` needs; checksums as torchvision states them. The ``extra`` part is not used."""


def read_svhn(
    folder: Path, part: Literal["train", "test"], *, rows: Tensor | None = None, progress: Progress | None = None
) -> ClassifiedImages:
    """Read SVHN: 73,257 training and 26,032 test images of house numbers' digits, 32 × 32.

    On disk the digit 0 has the label 10; here, as in torchvision, the class of a digit is the digit.

    Args:
        folder: The folder that holds ``train_32x32.mat`` and ``test_32x32.mat``.
        part: Which part.
        rows: Only these rows, in this order, shape (M,); None: all.
        progress: Told of the images that are read, all at once.

    Returns:
        The images, shape (N, 3, 32, 32).

    Raises:
        InputError: If a file is missing or broken, or a row is not there.
        MissingExtraError: If torchvision is not installed; the extra ``reproduce`` brings it.

    Example:
        >>> import tempfile
        >>> from auxilearn.data.miniature import write_svhn
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_svhn(folder)
        >>> found = read_svhn(folder, "test")
        >>> tuple(found.pixels.shape), found.names[int(found.classes.max())]
        ((200, 3, 32, 32), '9')

    References:
        Netzer et al., "Reading digits in natural images with unsupervised feature learning", 2011.
    """
    one_of("part", part, ("train", "test"))
    require_files(folder, SVHN_FILES, data="SVHN")
    published: Any = require("torchvision.datasets", extra="reproduce").SVHN
    matlab: Any = require("scipy.io.matlab", extra="reproduce")
    # Without a checksum torchvision only looks whether a file is there.
    listed = {name: [url, file, None] for name, (url, file, _) in published.split_list.items()}
    rule = f"`{part}_32x32.mat` in `{folder}` must be as published: `X` (32, 32, 3, N), bytes, and `y`, 1 to 10."
    cure = "Compare the checksums (`auxilearn reproduce ... --verify`), and get the file anew."
    try:
        found: Any = type("SVHN", (published,), {"split_list": listed})(str(folder), split=part, download=False)
        pixels, classes = torch.from_numpy(found.data.copy()), torch.from_numpy(found.labels)
    except (matlab.MatReadError, OSError, KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise InputError(explain(rule, f"It cannot be read: {error!r}.", cure)) from error
    if pixels.dtype != torch.uint8 or pixels.shape[1:] != (3, 32, 32) or classes.shape != pixels.shape[:1]:
        finding = f"Transposed, `X` is {tuple(pixels.shape)}, {pixels.dtype}; `y` is {tuple(classes.shape)}."
        raise InputError(explain(rule, finding, cure))
    if not bool(((classes >= 0) & (classes <= 9)).all()):
        raise InputError(explain(rule, f"`y` goes to {int(classes.max())}.", cure))
    wanted = chosen(rows, len(classes))
    if progress is not None:
        progress(len(wanted), len(wanted))
    return ClassifiedImages(pixels[wanted], classes[wanted], tuple(str(digit) for digit in range(10)))
