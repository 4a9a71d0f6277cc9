"""CIFAR-10 and CIFAR-100 in small."""

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auxilearn.data.miniature._pieces import Regions, new_folder, shuffled

_SIDE = 32


def write_cifar10(folder: Path, *, seed: int = 0) -> None:
    """Write 5 batches of 200 training images and 200 test images, of ten regions of real pictures; 4 MB.

    Args:
        folder: An empty folder; ``cifar-10-batches-py`` is made in it.
        seed: The seed of the cuts.

    Raises:
        InputError: If the folder is not empty.
        MissingExtraError: If a package with pictures is not installed; the extra ``reproduce`` brings them.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_cifar10(folder)
        >>> sorted(file.name for file in (folder / "cifar-10-batches-py").iterdir())[:3]
        ['batches.meta', 'data_batch_1', 'data_batch_2']
    """
    place = new_folder(folder) / "cifar-10-batches-py"
    place.mkdir()
    generator = torch.Generator().manual_seed(seed)
    regions = Regions(10, generator)
    for name, title in (
        *((f"data_batch_{n}", f"training batch {n} of 5") for n in range(1, 6)),
        ("test_batch", "testing batch 1 of 1"),
    ):
        classes = shuffled(10, 20, generator)
        content: dict[bytes, Any] = {b"batch_label": title.encode(), b"labels": classes.tolist()}
        content |= _images(regions, classes)
        (place / name).write_bytes(_python2_pickle(content))
    names = [name.encode() for name in regions.names]
    meta = {b"num_cases_per_batch": 200, b"label_names": names, b"num_vis": 3 * _SIDE * _SIDE}
    (place / "batches.meta").write_bytes(_python2_pickle(meta))


def write_cifar100(folder: Path, *, seed: int = 0) -> None:
    """Write 2,000 training and 500 test images of a hundred regions of real pictures; 8 MB.

    Args:
        folder: An empty folder; ``cifar-100-python`` is made in it.
        seed: The seed of the cuts.

    Raises:
        InputError: If the folder is not empty.
        MissingExtraError: If a package with pictures is not installed; the extra ``reproduce`` brings them.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_cifar100(folder)
        >>> sorted(file.name for file in (folder / "cifar-100-python").iterdir())
        ['meta', 'test', 'train']
    """
    place = new_folder(folder) / "cifar-100-python"
    place.mkdir()
    generator = torch.Generator().manual_seed(seed)
    regions = Regions(100, generator)
    for name, title, each in (("train", b"training batch 1 of 1", 20), ("test", b"testing batch 1 of 1", 5)):
        classes = shuffled(100, each, generator)
        labels: dict[bytes, Any] = {b"fine_labels": classes.tolist(), b"coarse_labels": (classes // 5).tolist()}
        content = {b"batch_label": title, **labels, **_images(regions, classes)}
        (place / name).write_bytes(_python2_pickle(content))
    fine = [name.encode() for name in regions.names]
    coarse = [b"group %d" % number for number in range(20)]
    meta = {b"fine_label_names": fine, b"coarse_label_names": coarse}
    (place / "meta").write_bytes(_python2_pickle(meta))


def _images(regions: Regions, classes: Tensor) -> dict[bytes, Any]:
    data = regions.draw(classes, _SIDE, _SIDE).flatten(1).numpy()
    names = [f"{regions.names[int(c)].replace(' ', '_')}_s_{n:06}.png".encode() for n, c in enumerate(classes)]
    return {b"data": data, b"filenames": names}


def _python2_pickle(content: dict[bytes, Any]) -> bytes:
    # Python 2 wrote the published files. Its strings are read as `str` or as `bytes`, as the reader asks, which
    # Python 3 can no longer write; only the pickler in pure Python can be taught to.
    pickler: Any = getattr(pickle, "_Pickler")  # noqa: B009

    def save_bytes(self: Any, text: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(text)) + text)  # BINSTRING
        self.memoize(text)

    kind = type("Python2Pickler", (pickler,), {"dispatch": {**pickler.dispatch, bytes: save_bytes}})
    stream = io.BytesIO()
    kind(stream, protocol=2).dump(content)
    return stream.getvalue()
