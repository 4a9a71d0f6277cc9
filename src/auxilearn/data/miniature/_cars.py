"""Stanford Cars in small."""

from pathlib import Path
from typing import Any

import torch

from auxilearn._extras import require
from auxilearn.data.miniature._pieces import Regions, new_folder, save, shuffled

_CLASSES, _TRAIN, _TEST, _GREY = 196, 6, 2, 200
_SIDES = ((60, 90), (72, 72), (54, 96))


def write_cars(folder: Path, *, seed: int = 0) -> None:
    """Write 6 training and 2 test images of each of 196 regions of real pictures; 4 MB.

    As published, images differ in size, some are grey, labels are numbered from 1, and the annotations have boxes.

    Args:
        folder: An empty folder; ``stanford_cars`` is made in it, in torchvision's layout.
        seed: The seed of the cuts.

    Raises:
        InputError: If the folder is not empty.
        MissingExtraError: If a package with pictures is not installed; the extra ``reproduce`` brings them.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_cars(folder)
        >>> sorted(file.name for file in (folder / "stanford_cars").iterdir())
        ['cars_test', 'cars_test_annos_withlabels.mat', 'cars_train', 'devkit']
    """
    io: Any = require("scipy.io", extra="reproduce")
    numpy: Any = require("numpy", extra="reproduce")
    fields: Any = require("numpy.lib.recfunctions", extra="reproduce")
    base = new_folder(folder) / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    regions = Regions(_CLASSES, generator)
    names = numpy.array(regions.names, dtype=object)[None]
    io.savemat(str(base / "devkit" / "cars_meta.mat"), {"class_names": names})
    boxes = [(f"bbox_{corner}", object) for corner in ("x1", "y1", "x2", "y2")]
    for part, each in (("train", _TRAIN), ("test", _TEST)):
        classes = shuffled(_CLASSES, each, generator)
        labelled = numpy.zeros((1, len(classes)), dtype=[*boxes, ("class", object), ("fname", object)])
        for number, label in enumerate(classes):
            height, width = _SIDES[number % len(_SIDES)]
            name, mode = f"{number + 1:05}.jpg", "L" if number % _GREY == 1 else "RGB"
            save(regions.cut(int(label), height, width), base / f"cars_{part}" / name, mode)
            box = (numpy.uint8(edge) for edge in (3, 3, width - 3, height - 3))
            labelled[0, number] = (*box, numpy.uint8(int(label) + 1), name)
        unlabelled = fields.repack_fields(labelled[[*(name for name, _ in boxes), "fname"]])
        if part == "train":
            io.savemat(str(base / "devkit" / "cars_train_annos.mat"), {"annotations": labelled})
        else:
            io.savemat(str(base / "devkit" / "cars_test_annos.mat"), {"annotations": unlabelled})
            io.savemat(str(base / "cars_test_annos_withlabels.mat"), {"annotations": labelled})
