"""The Oxford-IIIT Pet data set in small."""

from pathlib import Path

import torch

from auxilearn.data.miniature._pieces import Regions, new_folder, save

_CLASSES, _CATS, _TRAIN, _TEST = 37, 12, 12, 4
_HEAD = """#Image CLASS-ID SPECIES BREED ID
#ID: 1:37 Class ids
#SPECIES: 1:Cat 2:Dog
#BREED ID: 1-25:Cat 1:12:Dog
#All images with 1st letter as captial are cat images
#images with small first letter are dog images
"""


def write_pet(folder: Path, *, seed: int = 0) -> None:
    """Write 12 training and 4 test images of each of 37 regions of real pictures; 2 MB.

    As published, images differ in size, one is grey, and one has an alpha channel and is a PNG behind its name; names
    of "cats" start with a capital. Trimaps and boxes, which are published, too, are not written.

    Args:
        folder: An empty folder; ``oxford-iiit-pet`` is made in it.
        seed: The seed of the cuts.

    Raises:
        InputError: If the folder is not empty.
        MissingExtraError: If a package with pictures is not installed; the extra ``reproduce`` brings them.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_pet(folder)
        >>> (folder / "oxford-iiit-pet" / "annotations" / "test.txt").read_text().splitlines()[0]
        'Astronaut_0_13 1 1 1'
    """
    place = new_folder(folder) / "oxford-iiit-pet"
    generator = torch.Generator().manual_seed(seed)
    regions = Regions(_CLASSES, generator)
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for number, region in enumerate(regions.names):
        cat = number < _CATS
        breed = (region.capitalize() if cat else region).replace(" ", "_")
        for count in range(1, _TRAIN + _TEST + 1):
            height, width = (80, 96) if count % 3 else (96, 72)
            mode = {(0, 2): "L", (1, 2): "RGBA"}.get((number, count), "RGB")
            save(regions.cut(number, height, width), place / "images" / f"{breed}_{count}.jpg", mode)
            line = f"{breed}_{count} {number + 1} {1 if cat else 2} {number + 1 if cat else number + 1 - _CATS}"
            lists["trainval" if count <= _TRAIN else "test"].append(line)
    notes = place / "annotations"
    notes.mkdir()
    for name, lines in lists.items():
        (notes / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    everything = "\n".join(lists["trainval"] + lists["test"]) + "\n"
    (notes / "list.txt").write_text(_HEAD + everything, encoding="utf-8")
