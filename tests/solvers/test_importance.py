"""Terms kept by systematic sampling: how many, how often, and that a sum stays right on average."""

import pytest
import torch

from auxilearn.solvers._importance import sampled
from support import DEVICE, DTYPE, close, generator, normal

WEIGHTS = torch.tensor([0.0, 1.0, 2.0, 50.0, 1.0, 4.0, 2.0, 90.0], dtype=DTYPE, device=DEVICE)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
def test_as_many_are_kept_as_asked_for(size: int) -> None:
    for seed in range(20):
        at, chance = sampled(WEIGHTS, size, generator(seed))
        assert len(at) == size
        assert bool(((chance > 0) & (chance <= 1)).all())
        assert bool((at[1:] > at[:-1]).all())


def test_all_of_positive_weight_are_kept_if_there_are_no_more() -> None:
    at, chance = sampled(WEIGHTS, 7, generator(0))
    assert at.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert close(chance, torch.ones_like(chance), 1e-15)


def test_what_outweighs_the_rest_is_always_kept() -> None:
    for seed in range(20):
        at, chance = sampled(WEIGHTS, 4, generator(seed))
        assert {3, 7} <= set(at.tolist())
        assert close(chance[(at == 3) | (at == 7)], torch.ones(2).to(chance), 1e-15)


def test_each_is_kept_as_often_as_it_says_and_sums_are_right_on_average() -> None:
    values, total, times = normal(8, seed=1) * WEIGHTS, 0.0, 4000
    for seed in range(times):
        at, chance = sampled(WEIGHTS, 4, generator(seed))
        total += float((values[at] / chance).sum()) / times
    assert total == pytest.approx(float(values.sum()), abs=0.05 * float(values.abs().sum()))


def test_without_any_weight_nothing_is_kept() -> None:
    at, _ = sampled(torch.zeros_like(WEIGHTS), 3, generator(0))
    assert len(at) == 0
