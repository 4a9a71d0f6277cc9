"""Rows of the data, and which of them a step sees."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data import default_collate as _default_collate  # pyright: ignore[reportUnknownVariableType]

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.training._problem import Batch, Problem

_MOST = 2**24  # numbers of a forward pass's input


@final
@dataclass(frozen=True)
class Rows:
    """Access to the data by row numbers.

    Attributes:
        size: The number of rows.
        take: A function of row numbers that returns the batch.
        labelled: The rows with a main label, shape (N,).
        others: The rows without one.
        has_label: The same as a mask, shape (size,).
        batch_size: The batch size of a loader, if the data came as one.
        piece: How many rows a forward pass without gradients takes: fewer of large samples.
    """

    size: int
    take: Callable[[Tensor], Batch]
    labelled: Tensor
    others: Tensor
    has_label: Tensor
    batch_size: int | None = None
    piece: int = 512

    def batch(self, chosen: Tensor, device: torch.device) -> tuple[Batch, Tensor]:
        """Take rows.

        Args:
            chosen: Their numbers, (B,).
            device: Where to.

        Returns:
            The batch, and which of its rows carry a main label, (B,).
        """
        return to_device(self.take(chosen), device), self.has_label[chosen].to(device)

    def a_step(self, batch_size: int | None) -> int:
        """Say how many rows of each kind a step sees.

        Args:
            batch_size: What the settings say; None leaves it to the loader, if there is one.

        Returns:
            The number.
        """
        return batch_size or self.batch_size or 64


def rows_of(problem: Problem) -> Rows:
    """Open the data of a problem.

    Args:
        problem: The problem.

    Returns:
        The rows.

    Raises:
        InputError: If the data cannot be indexed, is empty or uneven, chooses rows by itself, or ``labelled`` does not
            fit it.
    """
    data, batch_size = cast("object", problem.data), None
    if isinstance(data, Tensor):
        rule, cure = "`data` must be a tuple of tensors.", "Write a single one as `(x,)`; its batches are tuples, too."
        raise InputError(explain(rule, "It is a bare tensor.", cure))
    if isinstance(data, (Mapping, str)):
        rule = "`data` must be tensors of equal length, a map-style data set, or a loader of one."
        cure = "Pass the values, `tuple(data.values())`: a batch is the tuple of their rows."
        raise InputError(explain(rule, f"It is a `{type(cast('object', data)).__name__}`.", cure))
    if isinstance(data, (tuple, list)):
        tensors = tuple(cast("Sequence[Tensor]", data))
        size, take = _length(tensors), _take_tensors(tensors)
    else:
        collate = cast("Callable[[list[Any]], Batch]", _default_collate)
        dataset: Any = data
        if isinstance(data, DataLoader):
            loader = cast("DataLoader[Any]", data)
            dataset, batch_size, collate = loader.dataset, loader.batch_size, cast("Any", loader.collate_fn)
        _refuse_stream(dataset)
        if isinstance(data, DataLoader):
            _refuse_own_order(cast("DataLoader[Any]", data))
        size, take = len(dataset), _take_items(dataset, collate)
    if size == 0:
        raise InputError(explain("`data` must hold samples.", "It is empty.", "Check what was loaded."))
    last = take(torch.tensor([size - 1]))  # a data set may hold fewer samples than it says; better found now
    labelled = _labelled(problem.labelled, size)
    has_label = torch.zeros(size, dtype=torch.bool)
    has_label[labelled] = True
    return Rows(size, take, labelled, (~has_label).nonzero().squeeze(1), has_label, batch_size, _piece(last))


def _take_tensors(tensors: tuple[Tensor, ...]) -> Callable[[Tensor], Batch]:
    return lambda rows: tuple(t[rows.to(t.device)] for t in tensors)


def _take_items(dataset: Any, collate: Callable[[list[Any]], Batch]) -> Callable[[Tensor], Batch]:
    together = getattr(dataset, "__getitems__", None)  # torch's loader asks for it, too

    def take(rows: Tensor) -> Batch:
        numbers = cast("list[int]", rows.tolist())
        try:
            items = together(numbers) if callable(together) else [dataset[i] for i in numbers]
        except (IndexError, KeyError) as error:
            rule = f"`data` must hold the rows 0 to {len(dataset) - 1}, as its length says."
            finding = f"Reading one of them raised `{type(error).__name__}: {error}`."
            raise InputError(explain(rule, finding, "Mend `__len__` or `__getitem__` of the data set.")) from error
        return collate(cast("list[Any]", items))

    return take


def _piece(sample: Batch) -> int:
    # Activations outgrow the input some ten to a hundred times: 512 digits fit, and 18 photographs with their depth.
    return max(1, min(512, _MOST // max(1, _numbers(sample))))


def _numbers(batch: Batch) -> int:
    if isinstance(batch, Tensor):
        return batch.numel()
    if isinstance(batch, Mapping):
        return sum(map(_numbers, cast("Mapping[Any, Any]", batch).values()))
    if isinstance(batch, (tuple, list)):
        return sum(map(_numbers, cast("Sequence[Any]", batch)))
    return 0


def _refuse_own_order(loader: "DataLoader[Any]") -> None:
    # Which rows a step sees is decided here, so a loader's own choice of rows must not be lost without a word.
    rule = "A loader as `data` must serve single rows in plain or shuffled order: a step draws its own rows from it."
    sampler = cast("object", loader.sampler)
    if loader.batch_sampler is None:
        cure = "Pass `batch_size`, and a data set of samples."
        raise InputError(explain(rule, "It has `batch_size=None`, so its items are whole batches.", cure))
    batches = cast("object", loader.batch_sampler)
    own = sampler if type(batches) is BatchSampler else batches
    if not (own is sampler and isinstance(sampler, (SequentialSampler, RandomSampler))):
        cure = "Choose rows with `torch.utils.data.Subset`; weigh them inside `losses`."
        raise InputError(explain(rule, f"It has a `{type(own).__name__}`.", cure))


def _length(tensors: tuple[object, ...]) -> int:
    rule = "`data` must be tensors of equal length, a map-style data set, or a loader of one."
    for t in tensors:
        if not isinstance(t, Tensor) or t.dim() == 0:
            finding = f"It holds a `{type(t).__name__}`." if not isinstance(t, Tensor) else "It holds a scalar."
            raise InputError(explain(rule, finding, "Pass `(x, y, ...)`."))
    lengths = sorted({len(cast("Tensor", t)) for t in tensors})
    if len(lengths) != 1:
        finding = f"They have {', '.join(map(str, lengths))} rows." if lengths else "The tuple is empty."
        raise InputError(explain(rule, finding, "Give every sample a row in each tensor; mask what does not exist."))
    return lengths[0]


def _refuse_stream(dataset: object) -> None:
    name = type(dataset).__name__
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        rule = "`data` must be indexed by row: tensors, a map-style data set, or a loader of one."
        finding = f"It is a `{name}`, which cannot be."
        cure = (
            "For a stream, pass tensors of some of its samples, `(x, y, ...)`, and write the loop with "
            "`Trainer.train_step` and `outer_step`."
        )
        raise InputError(explain(rule, finding, cure))


def _labelled(rows: object, size: int) -> Tensor:
    if rows is None:
        return torch.arange(size)
    rule = f"`labelled` must hold distinct row numbers from 0 to {size - 1}."
    try:
        found = torch.as_tensor(cast("Any", rows)).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        finding, cure = f"It is a `{type(rows).__name__}` that is no vector.", "Pass a tensor, or a list of integers."
        raise InputError(explain(rule, finding, cure)) from error
    if found.dtype == torch.bool:
        cure = "Call `.nonzero().squeeze(1)` on the mask."
        raise InputError(explain(rule, "It is a bool mask.", cure))
    if found.dim() != 1 or not len(found) or found.is_floating_point() or found.is_complex():
        finding = f"It has shape {tuple(found.shape)} and dtype {found.dtype}."
        raise InputError(explain(rule, finding, "Pass a vector of integers; None if all rows have main labels."))
    low, high, distinct = int(found.min()), int(found.max()), len({int(row) for row in found})
    if low < 0 or high >= size or distinct != len(found):
        finding = f"They range from {low} to {high}, and {distinct} of {len(found)} are distinct."
        raise InputError(explain(rule, finding, "Check the split."))
    return found.long()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move every tensor of a batch.

    Args:
        batch: Tensors in tuples, lists and mappings, or anything with a method ``to``.
        device: Where to.

    Returns:
        A batch of the same structure.
    """
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if callable(getattr(batch, "to", None)):  # what tokenisers and graph libraries collate to
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in cast("Mapping[Any, Any]", batch).items()}
    if isinstance(batch, tuple) and hasattr(cast("Any", batch), "_fields"):  # a named tuple takes its fields one by one
        return _rebuilt(batch, *(to_device(value, device) for value in cast("Any", batch)))
    if isinstance(batch, (tuple, list)):
        return _rebuilt(batch, [to_device(value, device) for value in cast("list[Any]", batch)])
    return batch


def _rebuilt(like: Any, *content: Any) -> Any:
    return cast("Any", type(like))(*content)
