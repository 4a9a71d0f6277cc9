"""The settings of learned combination are in range, and of the right kind."""

from typing import Any

import pytest
import torch
from torch import nn

from auxilearn.combiners import Linear
from auxilearn.errors import InputError
from auxilearn.training import CrossFit, HeldOut, Learned, SecondBatch, gate


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"every": 0}, "`every` must"),
        ({"warmup": -1}, "`warmup` must"),
        ({"threshold": -0.1}, "`threshold` must"),
        ({"threshold": float("nan")}, "`threshold` must"),
        ({"average_from": 1.0}, "`average_from` must"),
        ({"outer": CrossFit}, r"`outer` must be .* It is a class\. Call the class"),
        ({"outer": "cross-fit"}, "`outer` must be .* It is a `str`"),
        ({"solver": "neumann"}, "`solver` must be a `LinearSolver`"),
        ({"combiner": Linear(3)}, "`combiner` must be a function .* It is a `Linear`. Pass the class"),
        ({"combiner": None}, "`combiner` must be a function"),
        ({"optimizer": torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)}, "`optimizer` must be a function"),
        ({"outer": CrossFit(), "refit": False}, "`CrossFit` leaves K models"),
    ],
)
def test_what_is_out_of_range_is_refused(changes: Any, finding: str) -> None:
    with pytest.raises(InputError, match=finding):
        Learned(**changes)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_is_between_nothing_and_all(share: float) -> None:
    with pytest.raises(InputError, match="`share` must"):
        HeldOut(share)


@pytest.mark.parametrize("policy", [CrossFit, SecondBatch])
def test_there_are_at_least_two_folds(policy: Any) -> None:
    with pytest.raises(InputError, match="`folds` must"):
        policy(1)


def test_the_default_weights_start_at_one_and_stay_below_three() -> None:
    combiner = Learned().combiner(2)
    assert isinstance(combiner, Linear)
    assert combiner.weights.tolist() == [1.0, 1.0]
    combiner.weight.theta.data.fill_(1e3)
    assert bool((combiner.weights <= 3).all())
    assert bool((combiner.weights > 2.9).all())


def test_the_gate_compares_means_by_default() -> None:
    assert Learned().threshold == 0.0
    losses = torch.tensor([1.0, -1.0, 0.0])  # a standard error of 1 / √3
    for t, chosen in ((0.1, "learned"), (-0.1, "main only")):
        assert gate({"main only": losses + t / 3**0.5, "learned": torch.zeros(3)}).chosen == chosen


def test_the_fast_policy() -> None:
    fast = Learned.fast()
    assert fast.outer == SecondBatch()
    assert not fast.gate
    assert Learned(outer=HeldOut(), refit=False).outer == HeldOut(0.2)
