"""Folders of arrays with numbered names: `0.npy`, `1.npy` and so on, without gaps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn._extras import require
from auxilearn.errors import InputError

Progress = Callable[[int, int], None]
"""Told the files that were read, and all files."""

_CURE = "Unpack the published archive anew, or pass the folder that holds it."


@final
@dataclass(frozen=True)
class Layer:
    """What a folder of numbered arrays holds.

    Attributes:
        folder: Its name.
        shape: The shape of each array; channels are last.
        low: No number is smaller.
        high: No number is larger.
        dtype: Of the tensor; numbers of an integer type must be whole.
    """

    folder: str
    shape: tuple[int, ...]
    low: float
    high: float
    dtype: torch.dtype = torch.float32


def read_numbered(
    folder: Path, layers: Sequence[Layer], *, data: str, expected: int | None, progress: Progress | None
) -> list[Tensor]:
    """Read folders that have equally many arrays.

    Args:
        folder: What holds the folders of the layers; it is only looked at.
        layers: The folders.
        data: The data set's name, for messages.
        expected: How many arrays each must have; None takes what is there.
        progress: Is told of every file.

    Returns:
        A tensor for each layer, shape (N, ...), with the channels after N.

    Raises:
        InputError: With the name of the first file that is missing or broken.
    """
    size = _size(folder, layers, data, expected)
    found: list[Tensor] = []
    for place, layer in enumerate(layers):
        *sides, channels = layer.shape if len(layer.shape) == 3 else (*layer.shape, 0)
        stack = torch.empty((size, channels, *sides) if channels else (size, *sides), dtype=layer.dtype)
        for number in range(size):
            array = _read(folder / layer.folder / f"{number}.npy", layer, data)
            stack[number] = array.movedim(-1, 0) if channels else array
            if progress is not None:
                progress(place * size + number + 1, len(layers) * size)
        found.append(stack)
    return found


def _size(folder: Path, layers: Sequence[Layer], data: str, expected: int | None) -> int:
    there = [{file.name for file in (folder / layer.folder).iterdir()} for layer in layers]
    numbers = [int(name[:-4]) for names in there for name in names if name.endswith(".npy") and name[:-4].isdecimal()]
    size = 1 + max(numbers, default=-1)
    rule = f"{data} must have arrays numbered from 0 without gaps, as many in each of its folders."
    if not size:
        raise InputError(explain(rule, f"There are none below `{folder}`.", _CURE))
    for number in range(size):
        for layer, names in zip(layers, there, strict=True):
            if f"{number}.npy" not in names:
                finding = f"`{folder / layer.folder / f'{number}.npy'}` is missing; the last number is {size - 1}."
                raise InputError(explain(rule, finding, _CURE))
    if expected is not None and size != expected:
        rule = f"`{folder}` of {data} must have all {expected} published arrays in each of its folders."
        raise InputError(explain(rule, f"There are {size}.", _CURE))
    return size


def _read(file: Path, layer: Layer, data: str) -> Tensor:
    numpy: Any = require("numpy", extra="reproduce")
    rule = f"`{file}` of {data} must be an array of shape {layer.shape} with numbers in [{layer.low}, {layer.high}]."
    try:
        array: Any = numpy.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(explain(rule, f"It cannot be read: {error}.", _CURE)) from error
    if array.shape != layer.shape or array.dtype.kind not in "fiu":
        raise InputError(explain(rule, f"It has shape {array.shape} and type {array.dtype}.", _CURE))
    if not numpy.isfinite(array).all():
        raise InputError(explain(rule, "Some are NaN or infinite.", _CURE))
    if array.min() < layer.low or array.max() > layer.high:
        raise InputError(explain(rule, f"They go from {array.min()} to {array.max()}.", _CURE))
    if not layer.dtype.is_floating_point and (array != numpy.rint(array)).any():
        raise InputError(explain(rule, "Some are not whole, as classes are.", _CURE))
    return torch.from_numpy(array.astype("float32")).to(layer.dtype)
