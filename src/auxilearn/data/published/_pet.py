"""The Oxford-IIIT Pet data set: photographs and lists."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from auxilearn._checks import count, explain, one_of
from auxilearn.data.published._files import PublishedFile, require_files
from auxilearn.data.published._kinds import ClassifiedImages
from auxilearn.data.published._stacked import Progress, chosen, stacked
from auxilearn.errors import InputError

_SITE = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"
# The checksums are the archives', as torchvision states them; nobody states those of what is in them.
_IMAGES = "images.tar.gz, MD5 5c4f3ee8e5d25df40f4fd59a7f44e54c"
_LISTS = "annotations.tar.gz, MD5 95a8c909bbe2e81eed6a22bccdf3f68f"

PET_FILES = (
    PublishedFile("oxford-iiit-pet/images", f"{_SITE}images.tar.gz", of=_IMAGES),
    PublishedFile("oxford-iiit-pet/annotations/trainval.txt", f"{_SITE}annotations.tar.gz", of=_LISTS),
    PublishedFile("oxford-iiit-pet/annotations/test.txt", f"{_SITE}annotations.tar.gz", of=_LISTS),
)
"""Files that :func:`read_pet` needs. Trimaps and boxes are not opened."""


def read_pet(
    folder: Path,
    part: Literal["train", "test"],
    *,
    size: int = 256,
    rows: Tensor | None = None,
    progress: Progress | None = None,
) -> ClassifiedImages:
    """Read the Oxford-IIIT Pet data set: 3,680 training and 3,669 test images of 37 breeds.

    Args:
        folder: The folder that holds ``oxford-iiit-pet`` with ``images`` and ``annotations``, torchvision's layout.
        part: ``"train"`` is what the lists call ``trainval``.
        size: The images are resized to size × size, as in the original code.
        rows: Only these rows of the list, in this order, shape (M,); None: all. Others are not decoded.
        progress: Told of each image that is decoded.

    Returns:
        The images, shape (N, 3, size, size). All at 256 take 0.7 GB a part.

    Raises:
        InputError: If a file is missing or broken, or a row is not there.
        MissingExtraError: If torchvision is not installed; the extra ``reproduce`` brings it.

    Example:
        >>> import tempfile
        >>> from auxilearn.data.miniature import write_pet
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_pet(folder)
        >>> found = read_pet(folder, "train", size=32)
        >>> tuple(found.pixels.shape), len(found.names)
        ((444, 3, 32, 32), 37)

    References:
        Parkhi et al., "Cats and dogs", CVPR 2012.
    """
    one_of("part", part, ("train", "test"))
    count("size", size, 1)
    require_files(folder, PET_FILES, data="Oxford-IIIT Pet")
    # torchvision's class knows a label only together with a decoded image, and leaves a broken file open.
    base = folder / "oxford-iiit-pet"
    file = base / "annotations" / ("trainval.txt" if part == "train" else "test.txt")
    stems: list[str] = []
    classes: list[int] = []
    names: dict[int, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        rule = f"Each line of `{file}` must be a name and three numbers."
        try:
            stem, label, _, _ = line.split()
            classes.append(int(label) - 1)
        except ValueError as error:
            finding = f"Line {number} is {line[:60]!r}."
            raise InputError(explain(rule, finding, f"Get it anew from {_SITE}annotations.tar.gz.")) from error
        stems.append(stem)
        names[classes[-1]] = stem.rsplit("_", 1)[0].replace("_", " ")
    if sorted(names) != list(range(len(names))):
        rule = f"The classes in `{file}` must be numbered from 1 without a gap."
        finding = f"They go from {min(names) + 1} to {max(names) + 1}, and are {len(names)}."
        raise InputError(explain(rule, finding, f"Get it anew from {_SITE}annotations.tar.gz."))
    wanted = chosen(rows, len(stems))
    pixels = stacked([base / "images" / f"{stems[row]}.jpg" for row in wanted], size=size, progress=progress)
    return ClassifiedImages(pixels, torch.tensor(classes)[wanted], tuple(names[label] for label in sorted(names)))
