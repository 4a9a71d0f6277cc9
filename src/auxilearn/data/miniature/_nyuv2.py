"""NYUv2 in small."""

from pathlib import Path

import torch

from auxilearn.data import rgbd_frame
from auxilearn.data.miniature._cuts import Region, write_cuts
from auxilearn.data.miniature._pieces import new_folder

_SIZE = (288, 384)
# Columns of the frame; the classes of the middle are in the others, too. Above row 120 nothing has a class.
_TRAIN = (Region(120, 480, 0, 260), Region(120, 480, 420, 640))
_TEST = (Region(120, 480, 260, 420),)


def write_nyuv2(folder: Path, *, seed: int = 0, train: int = 16, test: int = 4) -> None:
    """Write cuts of one real frame with depth, in MTAN's layout and size; 4 MB each.

    All numbers are measured: the frame's colours, objects, depth in metres, and the normals of that depth. Its nine
    classes are the objects in a box, numbered from 0, and not those of NYUv2. Background whose depth is unknown is
    unlabelled. Training and test cuts come from different columns. Files are in single precision.

    Args:
        folder: An empty folder; ``train`` and ``val`` are made in it.
        seed: The seed of the cuts.
        train: How many training images.
        test: How many test images.

    Raises:
        InputError: If the folder is not empty.
        MissingExtraError: If ``imgviz`` is not installed; the extra ``reproduce`` brings it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_nyuv2(folder, train=2, test=1)
        >>> sorted(str(file.relative_to(folder)) for file in folder.glob("train/[dn]*/*.npy"))
        ['train/depth/0.npy', 'train/depth/1.npy', 'train/normal/0.npy', 'train/normal/1.npy']
    """
    new_folder(folder)
    frame = rgbd_frame()
    unlabelled = (frame.classes == 0) & ~frame.has_depth
    layers = {
        "image": frame.rgb,
        "label": torch.where(unlabelled, -1, frame.classes).float(),
        "depth": frame.depth[None].float(),
        "normal": frame.normals.float(),
    }
    generator = torch.Generator().manual_seed(seed)
    for part, regions, amount in (("train", _TRAIN, train), ("val", _TEST, test)):
        write_cuts(folder / part, layers, regions, amount, size=_SIZE, generator=generator)
