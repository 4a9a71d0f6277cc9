"""What a user writes is read as meant, or refused with rule, finding and cure."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auxilearn.errors import InputError
from auxilearn.training import Problem
from auxilearn.training._problem import Measured, by_name
from auxilearn.training._returned import checked_logits, checked_losses, measured_by, refuse_broken
from support import DEVICE, normal
from training.tiny import data, losses, net, problem

NAN = float("nan")


def test_a_module_is_copied_and_a_function_is_called() -> None:
    model = net()
    copy = problem(model).new_model()
    assert copy is not model
    assert torch.equal(copy[0].weight, model[0].weight)
    assert copy[0].weight.data_ptr() != model[0].weight.data_ptr()
    built: list[nn.Module] = []

    def build() -> nn.Module:
        built.append(net())
        return built[-1]

    assert problem(build).new_model() is built[0]


@pytest.mark.parametrize(
    ("model", "finding"),
    [
        (3, "It is a `int`."),
        (lambda: 3, "It returned a `int`."),
        (nn.ReLU(), "It has none."),
        (nn.Linear(2, 2).requires_grad_(False), "It has none."),
    ],
)
def test_other_models_are_refused(model: Any, finding: str) -> None:
    with pytest.raises(InputError, match=finding):
        problem(model).new_model()


def test_names_are_made_up_or_as_many_as_the_losses_and_different() -> None:
    assert problem(main=1).named(3) == ("loss 0", "main", "loss 2")
    assert problem(names=["a", "b"]).named(2) == ("a", "b")
    for names, finding in [
        (("a",), "3 losses and 1 names"),
        (("a", "b", "a"), "`a` is there twice"),
        ("abc", "They are 'abc'"),
        ((1, 2, 3), "They are"),
    ]:
        with pytest.raises(InputError, match=finding):
            problem(names=names).named(3)


def test_losses_are_masked_by_what_exists_and_by_the_main_labels() -> None:
    values = torch.tensor([[1.0, NAN], [3.0, 4.0]], requires_grad=True)
    present = torch.tensor([[True, False], [True, True]])
    found, mask = checked_losses((values, present), problem(), torch.tensor([False, True]))
    assert found.tolist() == [[0.0, 0.0], [3.0, 4.0]]
    assert mask.tolist() == [[False, False], [True, True]]
    found.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_means_are_over_the_samples_that_have_a_loss() -> None:
    values, present = normal(5, 7, 3), normal(7, 3, seed=1) > 0
    present[:, 2] = False
    found = Measured(torch.where(present, values, 0.0), present).means()
    for k in range(2):
        assert torch.allclose(found[:, k], values[:, present[:, k], k].mean(1))
    assert not found[:, 2].any()


def test_units_are_at_least_single_precision() -> None:
    scale = torch.tensor([2.0])
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        found = Measured(torch.ones(1, 1, dtype=dtype), torch.ones(1, 1, dtype=torch.bool)).over(scale).values
        assert found.dtype == max(dtype, torch.float32, key=lambda d: d.itemsize)
        assert found.item() == 0.5


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


def test_values_get_names() -> None:
    assert by_name(("a", "b"), torch.tensor([1.0, 2.0])) == {"a": 1.0, "b": 2.0}


def test_a_problem_holds_what_it_was_given() -> None:
    found = Problem(net(), losses, data())
    assert (found.main, found.labelled, found.logits, found.names) == (0, None, None, None)
    assert losses(net(), data()).device.type == DEVICE.type
