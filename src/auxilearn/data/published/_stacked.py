"""From images of any size and mode to one tensor of bytes."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn._extras import require
from auxilearn.errors import InputError

Progress = Callable[[int, int], None]
"""Told how many images are decoded, and of how many."""


def chosen(rows: Tensor | None, size: int) -> list[int]:
    """List the rows that are asked for.

    Args:
        rows: Which, shape (M,), integers; None: all.
        size: How many there are.

    Returns:
        The rows, in order.

    Raises:
        InputError: If one is not there.
    """
    if rows is None:
        return list(range(size))
    found = cast("list[int]", rows.to(torch.int64).flatten().tolist())
    if found and not 0 <= min(found) <= max(found) < size:
        rule = f"`rows` must be between 0 and {size - 1}."
        raise InputError(explain(rule, f"They go from {min(found)} to {max(found)}.", "Leave the others out."))
    return found


def stacked(files: Sequence[Path], *, size: int, progress: Progress | None) -> Tensor:
    """Decode photographs, several at a time; Pillow does it without Python's lock, so that threads share the work.

    Grey images, and those with a palette or an alpha channel, become RGB. All are resized to a square, bilinear with
    antialiasing; proportions are not kept, as in the original code.

    Args:
        files: The images.
        size: The side of the result.
        progress: Told of each image.

    Returns:
        Pixels, shape (N, 3, size, size), bytes.

    Raises:
        InputError: If a file is missing or broken; the message has its name.
        MissingExtraError: If Pillow or torchvision is not installed; the extra ``reproduce`` brings them.
    """
    image: Any = require("PIL.Image", extra="reproduce")
    transforms: Any = require("torchvision.transforms", extra="reproduce")
    transform = transforms.Compose([transforms.Resize((size, size)), transforms.PILToTensor()])
    pixels = torch.empty(len(files), 3, size, size, dtype=torch.uint8)

    def decode(row: int) -> None:
        try:
            with image.open(files[row]) as picture:
                pixels[row] = transform(picture.convert("RGB"))
        # Pillow raises all of them.
        except (OSError, SyntaxError, ValueError, RuntimeError, image.DecompressionBombError) as error:
            rule = f"`{files[row]}` must be an image."
            raise InputError(explain(rule, f"It cannot be read: {error}.", "Get it anew.")) from error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        waiting = [pool.submit(decode, row) for row in range(len(files))]
        try:
            for done, future in enumerate(waiting, 1):
                future.result()
                if progress is not None:
                    progress(done, len(files))
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
    return pixels
