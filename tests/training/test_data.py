"""Rows are read from tensors, data sets and loaders alike, and drawn the same for everybody."""

from collections import namedtuple
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from auxilearn.errors import InputError
from auxilearn.training._data import rows_of, to_device
from training.tiny import LABELS, ROWS, data, problem


class Pairs(Dataset[Any]):
    """Says that it has ten items, and has some."""

    def __init__(self, there: int = 10) -> None:
        self.there = there

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index >= self.there:
            raise IndexError(index)
        return {"x": torch.full((2,), float(index)), "y": torch.tensor(index)}


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield torch.ones(2)


def test_tensors_data_sets_and_loaders_give_the_same_batches() -> None:
    rows, whole = torch.tensor([3, 0, 5]), TensorDataset(*data())
    expected = tuple(t[rows] for t in data())
    for given in (data(), list(data()), whole, Subset(whole, range(ROWS)), DataLoader(whole, batch_size=7)):
        found = rows_of(problem(data=given))
        assert found.size == ROWS
        assert found.batch_size == (7 if isinstance(given, DataLoader) else None)
        for a, b in zip(found.take(rows), expected, strict=True):
            assert torch.equal(a, b)


def test_a_loader_collates_as_it_was_told() -> None:
    loader = DataLoader(Pairs(), batch_size=4, shuffle=True, collate_fn=lambda items: [i["y"].item() for i in items])
    assert rows_of(problem(data=loader, labelled=None)).take(torch.tensor([7, 2])) == [7, 2]
    assert rows_of(problem(data=Pairs(), labelled=None)).take(torch.tensor([7, 2]))["y"].tolist() == [7, 2]


def test_rows_with_and_without_a_label() -> None:
    found = rows_of(problem(labelled=torch.tensor([5, 1], dtype=torch.int32)))
    assert found.labelled.tolist() == [5, 1]
    assert found.has_label.nonzero().squeeze(1).tolist() == [1, 5]
    assert sorted([*found.others.tolist(), 1, 5]) == list(range(ROWS))
    everything = rows_of(problem(labelled=None))
    assert len(everything.labelled) == ROWS
    assert not len(everything.others)
    assert rows_of(problem(labelled=[2, 3])).labelled.tolist() == [2, 3]


TEN = torch.ones(10, 2)
BAD_DATA: dict[str, tuple[Any, str]] = {
    "a bare tensor": (TEN, "It is a bare tensor"),
    "no tensors": ((), "The tuple is empty"),
    "empty tensors": ((TEN[:0],), "It is empty"),
    "uneven tensors": ((TEN, TEN[:7]), "They have 7, 10 rows"),
    "an array": (([1.0],), "It holds a `list`"),
    "a scalar": ((TEN, torch.ones(())), "It holds a scalar"),
    "a stream": (Stream(), r"It is a `Stream`, which cannot be\. For a stream, pass tensors of some of its samples"),
    "a loader of a stream": (DataLoader(Stream()), "It is a `Stream`"),
    "a generator": ((x for x in TEN), "It is a `generator`"),
    "None": (None, "It is a `NoneType`"),
    "an empty data set": (TensorDataset(TEN[:0]), "It is empty"),
    "a data set that ends early": (Pairs(6), "`IndexError: 9`"),
    "a loader of one": (DataLoader(Pairs(6)), "`IndexError: 9`"),
    "a dictionary": ({"x": TEN, "y": TEN}, r"It is a `dict`\. Pass the values"),
    "a string": ("digits", "It is a `str`"),
    "a loader of batches": (DataLoader(Pairs(), batch_size=None), "its items are whole batches"),
    "a loader that weighs": (
        DataLoader(Pairs(), sampler=WeightedRandomSampler([1.0] * 10, 10)),
        "It has a `WeightedRandomSampler`",
    ),
    "a loader with batches of its own": (
        DataLoader(Pairs(), batch_sampler=[[0, 1], [2, 3]]),
        "It has a `list`",
    ),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_other_data_are_refused(case: str) -> None:
    given, finding = BAD_DATA[case]
    with pytest.raises(InputError, match=finding):
        rows_of(problem(data=given, labelled=None))


def test_a_plain_batch_sampler_is_accepted() -> None:
    loader = DataLoader(Pairs(), batch_sampler=BatchSampler(SequentialSampler(Pairs()), 4, drop_last=False))
    assert rows_of(problem(data=loader, labelled=None)).size == 10


def test_a_hole_in_the_data_is_found_when_it_is_read() -> None:
    class Hole(Pairs):
        def __getitem__(self, index: int) -> dict[str, Tensor]:
            if index == 4:
                raise IndexError("hole")
            return super().__getitem__(index)

    rows = rows_of(problem(data=Hole(), labelled=None))
    with pytest.raises(InputError, match=r"`data` must hold the rows 0 to 9.*hole.*Mend"):
        rows.take(torch.tensor([3, 4]))


@pytest.mark.parametrize(
    ("labelled", "finding"),
    [
        (torch.tensor([0, ROWS]), f"range from 0 to {ROWS}"),
        (torch.tensor([-1, 3]), "range from -1 to 3"),
        (torch.tensor([1, 1, 2]), "2 of 3 are distinct"),
        (torch.tensor([], dtype=torch.long), r"shape \(0,\)"),
        ([], r"shape \(0,\)"),
        (torch.tensor([0.0, 1.0]), "torch.float32"),
        (torch.arange(4).view(2, 2), r"shape \(2, 2\)"),
        (torch.ones(ROWS, dtype=torch.bool), "It is a bool mask"),
        (torch.arange(2).to(torch.complex64), "torch.complex64"),
        ("0, 1", "It is a `str` that is no vector"),
        ([0, None], "It is a `list` that is no vector"),
        ([[0], [1, 2]], "It is a `list` that is no vector"),
        ({0, 1}, "It is a `set` that is no vector"),
    ],
)
def test_labelled_must_hold_distinct_row_numbers(labelled: Any, finding: str) -> None:
    with pytest.raises(InputError, match=finding):
        rows_of(problem(labelled=labelled))


Point = namedtuple("Point", ["x", "y"])  # an untyped one is a case of its own


class Typed(NamedTuple):
    x: Tensor


class Movable:
    device: torch.device | None = None

    def to(self, device: torch.device) -> "Movable":
        moved = Movable()
        moved.device = device
        return moved


def test_batches_of_any_structure_are_moved() -> None:
    meta = torch.device("meta")
    batch = {"a": [torch.ones(2), (torch.ones(1), "text")], "b": Point(torch.ones(1), 3), "c": Typed(torch.ones(1))}
    found = to_device(batch, meta)
    assert found["a"][0].is_meta
    assert found["a"][1][0].is_meta
    assert found["a"][1][1] == "text"
    assert isinstance(found["b"], Point)
    assert found["b"].x.is_meta
    assert found["b"].y == 3
    assert isinstance(found["c"], Typed)
    assert found["c"].x.is_meta
    assert to_device(Movable(), meta).device == meta
    assert LABELS < ROWS
