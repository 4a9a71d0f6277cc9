"""Cityscapes as MTAN publishes it: arrays of 128 × 256 pixels with 7 or 19 classes and inverse depth."""

from pathlib import Path
from typing import Literal

import torch

from auxilearn._checks import one_of
from auxilearn.data.published._files import PublishedFile, require_files
from auxilearn.data.published._kinds import DenseImages
from auxilearn.data.published._numbered import Layer, Progress, read_numbered

_SOURCE = "https://www.dropbox.com/s/lg2ktu7o8hzwf99/cityscapes2.zip?dl=0"
_HEIGHT, _WIDTH = 128, 256
_FOLDERS = {"train": "train", "test": "val"}
_SIZES = {"train": 2975, "test": 500}
_NAMES: dict[int, tuple[str, ...]] = {
    7: ("flat", "construction", "object", "nature", "sky", "human", "vehicle"),
    19: (
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
        *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    ),
}

CITYSCAPES_FILES = tuple(
    PublishedFile(f"{part}/{name}", _SOURCE, of="cityscapes2.zip")
    for part in _FOLDERS.values()
    for name in ("image", "label_7", "label_19", "depth")
)


def read_cityscapes(
    folder: Path,
    part: Literal["train", "test"],
    *,
    classes: Literal[7, 19] = 19,
    complete: bool = False,
    progress: Progress | None = None,
) -> DenseImages:
    """Read Cityscapes: 2,975 training and 500 test images of streets, which MTAN scaled to 128 × 256 pixels.

    The folder has ``train`` and ``val``, which is the test part, and these have ``image``, ``label_7``, ``label_19``
    and ``depth``, with ``0.npy``, ``1.npy`` and so on. Their publisher states no checksum, and no type of number: any
    is read. The depth is inverse: the disparity of the stereo pair as 16 bits hold it, divided to lie below 0.5. The
    names of the classes are those of Cityscapes in their order; the files hold only numbers.

    Args:
        folder: What holds ``train`` and ``val``.
        part: Which.
        classes: Categories or classes.
        complete: Whether all published images must be there; otherwise what is there is read, if it has no gaps.
        progress: Is told the files that were read, and all files.

    Returns:
        The images, without normals; all numbers are single precision, 1.6 GB of training images, and the classes bytes.

    Raises:
        InputError: If a file is missing, or is not what was published; the message has its name.

    Example:
        >>> import tempfile
        >>> from auxilearn.data.miniature import write_cityscapes
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_cityscapes(folder, train=1, test=1)
        >>> data = read_cityscapes(folder, "test", classes=7)
        >>> tuple(data.images.shape), tuple(data.classes.shape), data.names[3]
        ((1, 3, 128, 256), (1, 128, 256), 'nature')

    References:
        Cordts et al., "The Cityscapes dataset for semantic urban scene understanding", CVPR 2016; Liu, Johns, Davison,
        "End-to-end multi-task learning with attention", CVPR 2019: https://github.com/lorenmt/mtan.
    """
    one_of("part", part, ("train", "test"))
    one_of("classes", classes, (7, 19))
    label = f"label_{classes}"
    layers = (
        Layer("image", (_HEIGHT, _WIDTH, 3), -0.5, 1.5),
        Layer(label, (_HEIGHT, _WIDTH), -1, classes - 1, torch.int8),
        Layer("depth", (_HEIGHT, _WIDTH, 1), 0, 1),
    )
    wanted = [file for file in CITYSCAPES_FILES if file.path.endswith(("image", label, "depth"))]
    require_files(folder, wanted, data="Cityscapes")
    expected = _SIZES[part] if complete else None
    place = folder / _FOLDERS[part]
    images, found, depth = read_numbered(place, layers, data="Cityscapes", expected=expected, progress=progress)
    return DenseImages(images, found, depth, None, _NAMES[classes])
