"""NYUv2 as MTAN publishes it: arrays of 288 × 384 pixels with 13 classes, depth and surface normals."""

from pathlib import Path
from typing import Literal

import torch

from auxilearn._checks import one_of
from auxilearn.data.published._files import PublishedFile, require_files
from auxilearn.data.published._kinds import DenseImages
from auxilearn.data.published._numbered import Layer, Progress, read_numbered

_SOURCE = "https://www.dropbox.com/s/p2nn02wijg7peiy/nyuv2.zip?dl=0"
_HEIGHT, _WIDTH = 288, 384
_FOLDERS = {"train": "train", "test": "val"}
_SIZES = {"train": 795, "test": 654}
_NAMES = (
    *("bed", "books", "ceiling", "chair", "floor", "furniture", "objects"),
    *("picture", "sofa", "table", "television", "wall", "window"),
)
# Resizing may overshoot a little. What is far outside is in another unit, e.g. colours up to 255.
_LAYERS = (
    Layer("image", (_HEIGHT, _WIDTH, 3), -0.5, 1.5),
    Layer("label", (_HEIGHT, _WIDTH), -1, len(_NAMES) - 1, torch.int8),
    Layer("depth", (_HEIGHT, _WIDTH, 1), 0, 1000),
    Layer("normal", (_HEIGHT, _WIDTH, 3), -1.5, 1.5),
)

NYUV2_FILES = tuple(
    PublishedFile(f"{part}/{layer.folder}", _SOURCE, of="nyuv2.zip") for part in _FOLDERS.values() for layer in _LAYERS
)


def read_nyuv2(
    folder: Path, part: Literal["train", "test"], *, complete: bool = False, progress: Progress | None = None
) -> DenseImages:
    """Read NYUv2: 795 training and 654 test images of rooms, which MTAN scaled to 288 × 384 pixels.

    The folder has ``train`` and ``val``, which is the test part, and these have ``image``, ``label``, ``depth`` and
    ``normal``, with ``0.npy``, ``1.npy`` and so on. Their publisher states no checksum, and no type of number: any is
    read. Depth is in metres. The classes are the 13 of SceneNet in their order; the files hold only their numbers.

    Args:
        folder: What holds ``train`` and ``val``.
        part: Which.
        complete: Whether all published images must be there; otherwise what is there is read, if it has no gaps.
        progress: Is told the files that were read, and all files.

    Returns:
        The images; all numbers are single precision, 3 GB of training images, and the classes bytes.

    Raises:
        InputError: If a file is missing, or is not what was published; the message has its name.

    Example:
        >>> import tempfile
        >>> from auxilearn.data.miniature import write_nyuv2
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_nyuv2(folder, train=1, test=1)
        >>> data = read_nyuv2(folder, "train")
        >>> tuple(data.images.shape), tuple(data.depth.shape), data.names[3]
        ((1, 3, 288, 384), (1, 1, 288, 384), 'chair')

    References:
        Silberman et al., "Indoor segmentation and support inference from RGBD images", ECCV 2012; Liu, Johns, Davison,
        "End-to-end multi-task learning with attention", CVPR 2019: https://github.com/lorenmt/mtan.
    """
    one_of("part", part, ("train", "test"))
    require_files(folder, NYUV2_FILES, data="NYUv2")
    expected = _SIZES[part] if complete else None
    place = folder / _FOLDERS[part]
    images, classes, depth, normals = read_numbered(place, _LAYERS, data="NYUv2", expected=expected, progress=progress)
    return DenseImages(images, classes, depth, normals, _NAMES)
