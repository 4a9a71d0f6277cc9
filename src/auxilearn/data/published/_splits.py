"""Splits that are drawn once, kept in a file, and read again."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn.errors import InputError

Parts = Mapping[str, Tensor]
"""Row numbers by the name of the part."""


def kept_split(file: Path, draw: Callable[[], Parts], *, labels: Tensor) -> dict[str, Tensor]:
    """Read a split, or draw it and keep it.

    Args:
        file: A JSON file, outside the data's own folder; its folder is made.
        draw: Draws the parts, disjoint row numbers.
        labels: What is split, shape (N,): the split of other data is refused.

    Returns:
        Row numbers by the name of the part.

    Raises:
        InputError: If the file is of other data, or broken, or parts overlap or have rows that are not there.

    Example:
        >>> import tempfile
        >>> file, labels = Path(tempfile.mkdtemp()) / "splits" / "seed-0.json", torch.tensor([0, 1, 1, 0])
        >>> kept_split(file, lambda: {"train": torch.tensor([0, 2]), "validation": torch.tensor([1])}, labels=labels)
        {'train': tensor([0, 2]), 'validation': tensor([1])}
        >>> kept_split(file, lambda: {}, labels=labels)["train"]
        tensor([0, 2])
    """
    mark = hashlib.sha256(labels.cpu().to(torch.int64).numpy().tobytes()).hexdigest()
    if file.exists():
        parts = _read(file, mark)
        _refuse_overlap(parts, len(labels), f"The split in `{file}`")
        return parts
    parts = {name: rows.cpu().to(torch.int64) for name, rows in draw().items()}
    _refuse_overlap(parts, len(labels), "A split")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    content = {"of": mark, "parts": {name: cast("list[int]", rows.tolist()) for name, rows in parts.items()}}
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(file)
    return parts


def _read(file: Path, mark: str) -> dict[str, Tensor]:
    rule, cure = f"`{file}` must be a split of these data.", "Delete it to draw a new one, or pass another --out."
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        of = content["of"]
        parts = {str(name): torch.tensor(rows, dtype=torch.int64) for name, rows in content["parts"].items()}
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(explain(rule, f"It cannot be read: {error}.", cure)) from error
    if of != mark:
        raise InputError(explain(rule, "It is of others: the labels differ.", cure))
    return parts


def _refuse_overlap(parts: Parts, size: int, what: str) -> None:
    rows = torch.cat([torch.empty(0, dtype=torch.int64), *parts.values()])
    rule = f"{what} must have disjoint parts, of rows from 0 to {size - 1}."
    distinct = len({int(row) for row in rows})
    if distinct != len(rows):
        raise InputError(explain(rule, f"{len(rows) - distinct} rows are in two parts.", "Mend the draw."))
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < size:
        raise InputError(explain(rule, f"They go from {int(rows.min())} to {int(rows.max())}.", "Mend the draw."))
