"""CUB-200-2011: photographs of birds, their species, and 312 attributes of each image."""

import warnings
from collections import Counter
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

_SITE = "https://data.caltech.edu/records/65de6-vp158"
_ARCHIVE = "CUB_200_2011.tgz, MD5 97eceeb196236b17998738112f37df78"
_BASE = "CUB_200_2011"
_MOST = 11_788  # images

CUB_FILES = tuple(
    PublishedFile(f"{_BASE}/{path}", _SITE, of=_ARCHIVE)
    for path in (
        "images.txt",
        "image_class_labels.txt",
        "train_test_split.txt",
        "classes.txt",
        "images",
        "attributes/image_attribute_labels.txt",
    )
)
"""Files that :func:`read_cub` needs, besides ``attributes.txt``, which lies at different places in different copies."""

_NAMES_OF_ATTRIBUTES = ("attributes.txt", f"{_BASE}/attributes.txt", f"{_BASE}/attributes/attributes.txt")


def read_cub(
    folder: Path,
    part: Literal["train", "test"],
    *,
    size: int = 256,
    attributes: bool = True,
    rows: Tensor | None = None,
    progress: Progress | None = None,
) -> ClassifiedImages:
    """Read CUB-200-2011: 5,994 training and 5,794 test images of 200 species, each with 312 binary attributes.

    Args:
        folder: The folder that holds ``CUB_200_2011``.
        part: Which part of the published split; the test part is what the split file does not call training.
        size: The images are resized to size × size.
        attributes: Whether attributes and certainties are read, too: a file of 3.7 million lines, of which some have a
            column too many.
        rows: Only these rows of the part, in this order, shape (M,); None: all. Others are not decoded.
        progress: Told of each image that is decoded.

    Returns:
        The images, shape (N, 3, size, size). All at 256 take 1.2 GB a part. Their order is that of the image numbers.

    Raises:
        InputError: If a file is missing or broken, or a row is not there.
        MissingExtraError: If torchvision or numpy is not installed; the extra ``reproduce`` brings them.

    Example:
        >>> import tempfile
        >>> from auxilearn.data.miniature import write_cub
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_cub(folder, classes=5)
        >>> found = read_cub(folder, "train", size=32)
        >>> tuple(found.pixels.shape), tuple(found.attributes.shape), found.attribute_names[0]
        ((25, 3, 32, 32), (25, 312), 'has_trait_0::value_0')

    References:
        Wah et al., "The Caltech-UCSD Birds-200-2011 dataset", CNS-TR-2011-001.
    """
    one_of("part", part, ("train", "test"))
    count("size", size, 1)
    require_files(folder, CUB_FILES, data="CUB-200-2011")
    base = folder / _BASE
    numbers, paths, classes, names = _index(base, part)
    wanted = chosen(rows, len(paths))
    present, certainty, traits = None, None, ()
    if attributes:
        traits = _attribute_names(folder)
        present, certainty = _attributes(
            base / "attributes" / "image_attribute_labels.txt", int(numbers.max()), len(traits)
        )
        present, certainty = present[numbers[wanted]], certainty[numbers[wanted]]
        if bool((certainty == 0).any()):
            rule = f"`image_attribute_labels.txt` in `{folder}` must have a line for each image and attribute."
            finding = f"{int((certainty == 0).sum())} are not there."
            raise InputError(explain(rule, finding, f"Get it anew from {_SITE}."))
    pixels = stacked([paths[row] for row in wanted], size=size, progress=progress)
    return ClassifiedImages(pixels, classes[wanted], names, present, certainty, traits)


def cub_classes(folder: Path, part: Literal["train", "test"]) -> Tensor:
    """Read the species of every image, without opening any, to choose the rows of :func:`read_cub`.

    Args:
        folder: The folder that holds ``CUB_200_2011``.
        part: Which part of the published split.

    Returns:
        Shape (N,), from 0.

    Raises:
        InputError: If a file is missing or broken.

    Example:
        >>> import tempfile
        >>> from auxilearn.data.miniature import write_cub
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_cub(folder, classes=3)
        >>> cub_classes(folder, "test")
        tensor([0, 1, 2])
    """
    one_of("part", part, ("train", "test"))
    require_files(folder, CUB_FILES, data="CUB-200-2011")
    return _index(folder / _BASE, part)[2]


def _index(base: Path, part: str) -> tuple[Tensor, list[Path], Tensor, tuple[str, ...]]:
    # The number, the file and the class of each image of the part, and the name of each class.
    flag = "1" if part == "train" else "0"
    numbers = sorted(number for number, found in _pairs(base / "train_test_split.txt") if found == flag)
    files, labels = dict(_pairs(base / "images.txt")), dict(_pairs(base / "image_class_labels.txt"))
    species = dict(_pairs(base / "classes.txt"))
    rule = f"The lists in `{base}` must be of the same images and classes, numbered from 1."
    cure = f"Get them anew from {_SITE}."
    if not numbers:
        finding = f"`train_test_split.txt` has no line with a {flag}."
        raise InputError(explain(f"There must be a {part} part in `{base}`.", finding, cure))
    try:
        paths = [base / "images" / files[number] for number in numbers]
        owners = [int(labels[number]) for number in numbers]
        for owner in owners:
            species[owner]
        names = tuple(species[number].split(".", 1)[-1].replace("_", " ") for number in range(1, len(species) + 1))
    except KeyError as error:
        raise InputError(explain(rule, f"Number {error} is missing in one of them.", cure)) from error
    except ValueError as error:
        raise InputError(explain(rule, f"A class is no number: {error}.", cure)) from error
    return torch.tensor(numbers, dtype=torch.int64), paths, torch.tensor(owners, dtype=torch.int64) - 1, names


def _pairs(file: Path) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            first, second = line.split(maxsplit=1)
            found.append((int(first), second.strip()))
        except ValueError as error:
            rule = f"Each line of `{file}` must be a number and a value."
            finding = f"Line {number} is {line[:60]!r}."
            raise InputError(explain(rule, finding, f"Get it anew from {_SITE}.")) from error
    if not found:
        rule = f"`{file}` must be a list of numbers and values."
        raise InputError(explain(rule, "It is empty.", f"Get it anew from {_SITE}."))
    if len(dict(found)) != len(found):
        twice = next(number for number, times in Counter(number for number, _ in found).items() if times > 1)
        rule, cure = f"Each number must have one line in `{file}`.", f"Get it anew from {_SITE}."
        raise InputError(explain(rule, f"{twice} has several.", cure))
    return found


def _attribute_names(folder: Path) -> tuple[str, ...]:
    for path in _NAMES_OF_ATTRIBUTES:
        if (folder / path).exists():
            return tuple(name for _, name in sorted(_pairs(folder / path)))
    rule = f"CUB-200-2011 must have the names of its attributes below `{folder}`."
    finding = f"`attributes.txt`, a part of `{_ARCHIVE}`, is not there; nor is it inside `{_BASE}`."
    raise InputError(explain(rule, finding, f"Get it from {_SITE}."))


def _attributes(file: Path, last: int, count: int) -> tuple[Tensor, Tensor]:
    # By the number of the image: presence, and certainty, which is 0 where there is no line.
    numpy: Any = require("numpy", extra="reproduce")
    rule = f"Each line of `{file}` must be: image, attribute, presence, certainty, time."
    cure = f"Get it anew from {_SITE}."
    try:
        # Some published lines have a sixth column, a 0 before the time: the first four are right everywhere.
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a file without lines
            lines = torch.from_numpy(numpy.loadtxt(file, dtype=numpy.int64, usecols=(0, 1, 2, 3), ndmin=2))
    except (ValueError, IndexError, UserWarning) as error:
        raise InputError(explain(rule, f"It is not: {error}.", cure)) from error
    image, attribute, presence, sure = lines.unbind(1)
    last = max(last, _MOST)
    for name, column, low, high in (
        ("image", image, 1, last),
        ("attribute", attribute, 1, count),
        ("presence", presence, 0, 1),
        ("certainty", sure, 1, 4),
    ):
        if not low <= int(column.min()) <= int(column.max()) <= high:
            finding = f"The {name} goes from {int(column.min())} to {int(column.max())}, not from {low} to {high}."
            raise InputError(explain(rule, finding, cure))
    present = torch.zeros(last + 1, count, dtype=torch.bool)
    certainty = torch.zeros(last + 1, count, dtype=torch.int8)
    present[image, attribute - 1] = presence == 1
    certainty[image, attribute - 1] = sure.to(torch.int8)
    return present, certainty
