"""CIFAR-10 and CIFAR-100, as Python pickles."""

import pickle
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

_TEN = ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "cifar-10-python.tar.gz")
_HUNDRED = ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "cifar-100-python.tar.gz")

CIFAR10_FILES = tuple(
    PublishedFile(f"cifar-10-batches-py/{name}", _TEN[0], md5, of=_TEN[1])
    for name, md5 in (  # as torchvision states them
        ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
        ("test_batch", "40351d587109b95175f43aff81a1287e"),
        ("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
    )
)
"""Files that :func:`read_cifar10` needs."""

CIFAR100_FILES = tuple(
    PublishedFile(f"cifar-100-python/{name}", _HUNDRED[0], md5, of=_HUNDRED[1])
    for name, md5 in (
        ("train", "16019d7e3df5f24257cddd939b257f8d"),
        ("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
        ("meta", "7973b15100ade9c7d40fb424638fde48"),
    )
)
"""Files that :func:`read_cifar100` needs."""


def read_cifar10(
    folder: Path, part: Literal["train", "test"], *, rows: Tensor | None = None, progress: Progress | None = None
) -> ClassifiedImages:
    """Read CIFAR-10: 50,000 training and 10,000 test images of ten classes, 32 × 32.

    The files are pickles, and a pickle can run code: read none that you do not trust.
    :func:`~auxilearn.data.published.verify_files` compares their checksums; the reader itself does not, so that parts
    of the data can be read, too.

    Args:
        folder: The folder that holds ``cifar-10-batches-py``.
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
        >>> from auxilearn.data.miniature import write_cifar10
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_cifar10(folder)
        >>> len(read_cifar10(folder, "test")), tuple(read_cifar10(folder, "test", rows=torch.arange(5)).pixels.shape)
        (200, (5, 3, 32, 32))

    References:
        Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """
    require_files(folder, CIFAR10_FILES, data="CIFAR-10")
    return _read("CIFAR10", folder, part, rows, progress)


def read_cifar100(
    folder: Path, part: Literal["train", "test"], *, rows: Tensor | None = None, progress: Progress | None = None
) -> ClassifiedImages:
    """Read CIFAR-100: 50,000 training and 10,000 test images of a hundred (fine) classes, 32 × 32.

    The files are pickles, and a pickle can run code, as for :func:`read_cifar10`.

    Args:
        folder: The folder that holds ``cifar-100-python``.
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
        >>> from auxilearn.data.miniature import write_cifar100
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_cifar100(folder)
        >>> found = read_cifar100(folder, "train")
        >>> len(found.names), int(found.classes.max())
        (100, 99)

    References:
        Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """
    require_files(folder, CIFAR100_FILES, data="CIFAR-100")
    return _read("CIFAR100", folder, part, rows, progress)


def _read(
    kind: Literal["CIFAR10", "CIFAR100"], folder: Path, part: str, rows: Tensor | None, progress: Progress | None
) -> ClassifiedImages:
    one_of("part", part, ("train", "test"))
    published: Any = getattr(require("torchvision.datasets", extra="reproduce"), kind)
    # Without a checksum torchvision only looks whether a file is there.
    unchecked = {
        "train_list": [[name, None] for name, _ in published.train_list],
        "test_list": [[name, None] for name, _ in published.test_list],
        "meta": {**published.meta, "md5": None},
    }
    rule = f"{kind} in `{folder}` must be as published."
    cure = "Compare the checksums (`auxilearn reproduce ... --verify`), and get the file anew."
    try:
        found: Any = type(kind, (published,), unchecked)(str(folder), train=part == "train", download=False)
        pixels, classes = torch.from_numpy(found.data), torch.tensor(found.targets, dtype=torch.int64)
        names = tuple(str(name) for name in found.classes)
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise InputError(explain(rule, f"It cannot be read: {error!r}.", cure)) from error
    if (
        pixels.dtype != torch.uint8
        or len(pixels) != len(classes)
        or not 0 <= int(classes.min()) <= int(classes.max()) < len(names)
    ):
        finding = f"There are {len(pixels)} images, {pixels.dtype}, and {len(classes)} labels of {len(names)} classes."
        raise InputError(explain(rule, finding, cure))
    wanted = chosen(rows, len(classes))
    if progress is not None:
        progress(len(wanted), len(wanted))
    return ClassifiedImages(pixels.permute(0, 3, 1, 2)[wanted].contiguous(), classes[wanted], names)
