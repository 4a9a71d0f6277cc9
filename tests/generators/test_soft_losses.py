import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from auxilearn.errors import InputError
from auxilearn.generators import soft_cross_entropy, soft_focal_loss
from support import close, normal


def _slow(logits: torch.Tensor, targets: torch.Tensor, gamma: float) -> torch.Tensor:
    rows = []
    for z, q in zip(logits.tolist(), targets.tolist(), strict=True):
        total = sum(math.exp(a) for a in z)
        p = [math.exp(a) / total for a in z]
        rows.append(-sum(b * (1 - a) ** gamma * math.log(a) for a, b in zip(p, q, strict=True)))
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("gamma", [0, 1, 2, 3.5])
def test_are_the_sums_of_their_formulas(gamma: float) -> None:
    logits, targets = normal(5, 3).double().cpu(), normal(5, 3, seed=1).double().cpu().softmax(1)
    assert close(soft_focal_loss(logits, targets, gamma=gamma), _slow(logits, targets, gamma), 1e-12)
    assert close(soft_cross_entropy(logits, targets), _slow(logits, targets, 0), 1e-12)


def test_hard_targets_give_the_usual_cross_entropy() -> None:
    logits, labels = normal(4, 3), torch.tensor([0, 2, 1, 1])
    usual = functional.cross_entropy(logits.cpu(), labels, reduction="none")
    assert close(soft_cross_entropy(logits.cpu(), functional.one_hot(labels, 3)), usual, 1e-6)


def test_labels_may_be_shared_by_several_models() -> None:
    logits, targets = normal(2, 5, 3), normal(5, 3, seed=1).softmax(1)
    found = soft_cross_entropy(logits, targets)
    assert found.shape == (2, 5)
    assert close(found[1], soft_cross_entropy(logits[1], targets), 1e-6)


@pytest.mark.parametrize("loss", [soft_cross_entropy, soft_focal_loss])
def test_derivatives_by_logits_and_targets(loss) -> None:
    logits = normal(3, 4).double().requires_grad_()
    targets = normal(3, 4, seed=1).double().softmax(1).detach().requires_grad_()
    assert gradcheck(loss, (logits, targets))
    assert gradgradcheck(loss, (logits, targets))


def test_the_focal_loss_is_finite_where_a_sample_is_sure() -> None:
    logits = torch.tensor([[200.0, 0.0]], dtype=torch.float64, requires_grad=True)
    loss = soft_focal_loss(logits, torch.tensor([[1.0, 0.0]], dtype=torch.float64)).sum()
    (slope,) = torch.autograd.grad(loss, logits, create_graph=True)
    (bend,) = torch.autograd.grad(slope.square().sum(), logits)
    assert loss.item() == 0
    assert bool(torch.isfinite(slope).all() and torch.isfinite(bend).all())


def test_a_rare_probability_is_not_rounded_away() -> None:
    # 1 - p = 1e-9 for the sure class, below the precision of p in float32.
    logits = torch.tensor([[math.log(1e9), 0.0]])
    loss = soft_focal_loss(logits, torch.tensor([[1.0, 0.0]]), gamma=1)
    assert loss.item() == pytest.approx(1e-18, rel=1e-3)


@pytest.mark.parametrize("gamma", [-1.0, 0.5, 1.5, math.inf, math.nan])
def test_refuses_other_powers(gamma: float) -> None:
    with pytest.raises(InputError, match="`gamma` must be 0, 1"):
        soft_focal_loss(normal(2, 3), normal(2, 3), gamma=gamma)


@pytest.mark.parametrize("targets", [torch.zeros(2), torch.zeros(2, 4), torch.zeros(5, 3), torch.zeros(())])
def test_refuses_shapes_that_do_not_fit(targets: torch.Tensor) -> None:
    for loss in (soft_cross_entropy, soft_focal_loss):
        with pytest.raises(InputError, match="must have the same classes"):
            loss(torch.zeros(2, 3), targets)
