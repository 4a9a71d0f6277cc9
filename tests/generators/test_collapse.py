import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from auxilearn.errors import InputError
from auxilearn.generators import collapse_penalty
from support import normal


def test_is_the_negative_entropy_of_the_mean_label() -> None:
    labels = normal(6, 4).double().cpu().softmax(1)
    mean = [sum(row[k] for row in labels.tolist()) / 6 for k in range(4)]
    assert collapse_penalty(labels).item() == pytest.approx(sum(m * math.log(m) for m in mean), rel=1e-12)


def test_spans_from_even_use_to_one_class_only() -> None:
    assert collapse_penalty(torch.eye(5)).item() == pytest.approx(-math.log(5))
    assert collapse_penalty(torch.eye(5)[[2, 2, 2]]).item() == 0


def test_leading_dimensions_are_one_batch() -> None:
    labels = normal(2, 3, 4).softmax(-1)
    assert torch.equal(collapse_penalty(labels), collapse_penalty(labels.flatten(0, 1)))


def test_derivatives() -> None:
    logits = normal(3, 4).double().requires_grad_()
    assert gradcheck(lambda z: collapse_penalty(z.softmax(1)), logits)
    assert gradgradcheck(lambda z: collapse_penalty(z.softmax(1)), logits)


def test_a_step_against_it_brings_an_unused_class_back() -> None:
    logits = torch.tensor([[4.0, 0.0], [4.0, 0.0]], requires_grad=True)
    before = collapse_penalty(logits.softmax(1))
    (slope,) = torch.autograd.grad(before, logits)
    assert collapse_penalty((logits - slope).softmax(1)) < before
    assert bool((slope[:, 1] < 0).all())


def test_an_unused_class_keeps_the_slope_finite() -> None:
    labels = torch.eye(3)[[0, 0]].requires_grad_()
    (slope,) = torch.autograd.grad(collapse_penalty(labels), labels)
    assert bool(torch.isfinite(slope).all())


@pytest.mark.parametrize("labels", [torch.zeros(3), torch.zeros(0, 3)])
def test_refuses_no_labels(labels: torch.Tensor) -> None:
    with pytest.raises(InputError, match="must have shape"):
        collapse_penalty(labels)
