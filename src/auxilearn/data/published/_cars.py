"""Stanford Cars: photographs, and annotations as MATLAB files."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from auxilearn._checks import count, explain, one_of
from auxilearn._extras import require
from auxilearn.data.published._files import PublishedFile, require_files
from auxilearn.data.published._kinds import ClassifiedImages
from auxilearn.data.published._stacked import Progress, chosen, stacked
from auxilearn.errors import InputError

# The publisher's site, ai.stanford.edu/~jkrause/cars, is gone; nobody states checksums of the copies.
_COPIES = "a copy, since its own site is gone; https://github.com/pytorch/vision/issues/7545 says where there are some"

CARS_FILES = tuple(
    PublishedFile(f"stanford_cars/{path}", _COPIES, of=archive)
    for path, archive in (
        ("devkit/cars_meta.mat", "car_devkit.tgz"),
        ("devkit/cars_train_annos.mat", "car_devkit.tgz"),
        ("cars_test_annos_withlabels.mat", None),
        ("cars_train", "cars_train.tgz"),
        ("cars_test", "cars_test.tgz"),
    )
)
"""Files that :func:`read_cars` needs, in torchvision's layout. The test labels were a download of their own."""


def read_cars(
    folder: Path,
    part: Literal["train", "test"],
    *,
    size: int = 256,
    rows: Tensor | None = None,
    progress: Progress | None = None,
) -> ClassifiedImages:
    """Read Stanford Cars: 8,144 training and 8,041 test images of 196 models. Bounding boxes are not used.

    Args:
        folder: The folder that holds ``stanford_cars``.
        part: Which part.
        size: The images are resized to size × size.
        rows: Only these rows of the annotations, in this order, shape (M,); None: all. Others are not decoded.
        progress: Told of each image that is decoded.

    Returns:
        The images, shape (N, 3, size, size). All at 256 take 1.6 GB a part.

    Raises:
        InputError: If a file is missing or broken, or a row is not there.
        MissingExtraError: If torchvision or scipy is not installed; the extra ``reproduce`` brings them.

    Example:
        >>> import tempfile
        >>> from auxilearn.data.miniature import write_cars
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_cars(folder)
        >>> found = read_cars(folder, "train", size=32, rows=torch.arange(10))
        >>> tuple(found.pixels.shape), len(found.names)
        ((10, 3, 32, 32), 196)

    References:
        Krause et al., "3D object representations for fine-grained categorization", 3dRR 2013.
    """
    one_of("part", part, ("train", "test"))
    count("size", size, 1)
    require_files(folder, CARS_FILES, data="Stanford Cars")
    base = folder / "stanford_cars"
    names = tuple(str(name) for name in _read(base / "devkit" / "cars_meta.mat", "class_names"))
    # torchvision's class knows a label only together with a decoded image.
    file = base / ("devkit/cars_train_annos.mat" if part == "train" else "cars_test_annos_withlabels.mat")
    found = _read(file, "annotations")
    try:
        stems = [str(name) for name in found["fname"]]
        classes = torch.tensor([int(label) - 1 for label in found["class"]])  # from 1 on disk
    except (ValueError, TypeError, IndexError) as error:
        rule = f"`annotations` in `{file}` must have the fields `fname` and `class`."
        raise InputError(explain(rule, f"It has not: {error}.", f"Get {_COPIES}.")) from error
    if not bool(((classes >= 0) & (classes < len(names))).all()):
        rule = f"The classes in `{file}` must be numbered from 1 to {len(names)}."
        raise InputError(explain(rule, f"They go to {int(classes.max()) + 1}.", f"Get {_COPIES}."))
    wanted = chosen(rows, len(stems))
    pixels = stacked([base / f"cars_{part}" / stems[row] for row in wanted], size=size, progress=progress)
    return ClassifiedImages(pixels, classes[wanted], names)


def _read(file: Path, name: str) -> Any:
    io: Any = require("scipy.io", extra="reproduce")
    matlab: Any = require("scipy.io.matlab", extra="reproduce")
    numpy: Any = require("numpy", extra="reproduce")
    try:
        return numpy.atleast_1d(io.loadmat(str(file), squeeze_me=True)[name])
    except (matlab.MatReadError, OSError, KeyError, ValueError, TypeError, NotImplementedError) as error:
        rule = f"`{file}` must be a MATLAB file with `{name}`."
        raise InputError(explain(rule, f"It cannot be read: {error!r}.", f"Get {_COPIES}.")) from error
