"""What a user's functions return is read as meant, or refused with rule, finding and cure."""

from typing import Any

import pytest
import torch
from torch import Tensor

from auxilearn.errors import InputError
from auxilearn.training._problem import Measured
from auxilearn.training._returned import checked_logits, checked_losses, logits_by, measured_by, refuse_broken
from training.tiny import data, net, problem

NAN = float("nan")


def test_losses_are_masked_by_what_exists_and_by_the_main_labels() -> None:
    values = torch.tensor([[1.0, NAN], [3.0, 4.0]], requires_grad=True)
    present = torch.tensor([[True, False], [True, True]])
    found, mask = checked_losses((values, present), problem(), torch.tensor([False, True]))
    assert found.tolist() == [[0.0, 0.0], [3.0, 4.0]]
    assert mask.tolist() == [[False, False], [True, True]]
    found.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[0.0, 0.0], [1.0, 1.0]]


BAD_LOSSES: dict[str, tuple[Any, str]] = {
    "a scalar": (torch.ones(()), r"shape \(\)"),
    "a vector": (torch.ones(4), r"shape \(4,\)"),
    "images": (torch.ones(4, 2, 3, 3), "shape"),
    "integers": (torch.ones(4, 2, dtype=torch.long), "torch.int64"),
    "nothing": (torch.ones(0, 2), "shape"),
    "a number": (1.0, "It returned a `float`"),
    "a list of three": ([1, 2, 3], "It returned 3 things"),
    "a float mask": ((torch.ones(4, 2), torch.ones(4, 2)), "the mask is .* of torch.float32"),
    "a mask of another shape": ((torch.ones(4, 2), torch.ones(4, dtype=torch.bool)), "the mask is"),
    "a mask that is no tensor": ((torch.ones(4, 2), [True]), "the mask is list"),
}


@pytest.mark.parametrize("case", BAD_LOSSES)
def test_other_returns_are_refused(case: str) -> None:
    found, finding = BAD_LOSSES[case]
    with pytest.raises(InputError, match=finding):
        checked_losses(found, problem(), None)


@pytest.mark.parametrize("main", [2, -1, True, "main", 0.0, None])
def test_main_must_be_a_column(main: Any) -> None:
    with pytest.raises(InputError, match="`main` must be a column of the losses, from 0 to 1"):
        checked_losses(torch.ones(4, 2), problem(main=main), None)


@pytest.mark.parametrize(
    ("labelled", "finding"),
    [
        (torch.ones(3, dtype=torch.bool), "The batch has 3 samples, and the losses 4 rows"),
        (torch.arange(4), "dtype torch.int64"),
        (torch.ones(4), "dtype torch.float32"),
        (torch.ones(4, 1, dtype=torch.bool), r"shape \(4, 1\)"),
        ([True] * 4, "It is a `list`"),
    ],
)
def test_the_mask_of_main_labels_must_fit(labelled: Any, finding: str) -> None:
    with pytest.raises(InputError, match=finding):
        checked_losses(torch.ones(4, 2), problem(), labelled)


def test_losses_must_be_a_function() -> None:
    with pytest.raises(InputError, match=r"It is a `Tensor`\. Pass the function"):
        measured_by(problem(losses=torch.ones(2)), net(), data())


def test_logits_must_be_a_function() -> None:
    with pytest.raises(InputError, match=r"It is a `int`\. Pass the function"):
        logits_by(problem(logits=3), net(), data())


LOGITS, LABELS = torch.ones(4, 3), torch.zeros(4, dtype=torch.long)


@pytest.mark.parametrize(
    "found",
    [
        LOGITS,
        (LOGITS,),
        (LOGITS, [0] * 4),
        (LOGITS[:, 0], LABELS),
        (LOGITS, LABELS.float()),
        (LOGITS, LABELS == 0),
        (LOGITS, LABELS[:3]),
        (LOGITS.long(), LABELS),
    ],
)
def test_logits_must_be_a_pair_that_fits(found: Any) -> None:
    assert checked_logits((LOGITS, LABELS)) == (LOGITS, LABELS)
    with pytest.raises(InputError, match="`logits` must return a pair"):
        checked_logits(found)


def test_broken_losses_are_named() -> None:
    values: Tensor = torch.ones(2, 4, 3)
    refuse_broken(Measured(values, values[0] > 0), ("a", "b", "c"))
    values[1, 2, 0], values[0, 1, 2] = NAN, float("inf")
    with pytest.raises(InputError, match="NaN or infinite: `a`, `c`"):
        refuse_broken(Measured(values, values[0] > 0), ("a", "b", "c"))
