"""What a user writes is read as meant, or refused with rule, finding and cure."""

from typing import Any

import pytest
import torch
from torch import nn

from auxilearn.errors import InputError
from auxilearn.training import Problem
from auxilearn.training._problem import Measured, by_name
from support import DEVICE, normal
from training.tiny import data, losses, net, problem


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
        (nn.Linear, "there is a missing a required argument: 'in_features'."),
        (lambda width: nn.Linear(width, 2), "there is a missing a required argument: 'width'."),
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
        (3, "They are 3"),
    ]:
        with pytest.raises(InputError, match=finding):
            problem(names=names).named(3)


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


def test_losses_must_keep_their_columns() -> None:
    found = Measured(torch.ones(4, 3), torch.ones(4, 3, dtype=torch.bool))
    with pytest.raises(InputError, match=r"the same columns.*They were 2 at first, and are 3 now"):
        found.over(torch.ones(2))


def test_values_get_names() -> None:
    assert by_name(("a", "b"), torch.tensor([1.0, 2.0])) == {"a": 1.0, "b": 2.0}


def test_a_problem_holds_what_it_was_given() -> None:
    found = Problem(net(), losses, data())
    assert (found.main, found.labelled, found.logits, found.names) == (0, None, None, None)
    assert losses(net(), data()).device.type == DEVICE.type
