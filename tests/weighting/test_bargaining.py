"""The bargaining solution and its derivative."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from auxilearn.errors import InputError
from auxilearn.weighting import NashMTL, Step
from auxilearn.weighting._bargaining import bargain, sensitivity
from support import DEVICE, normal
from weighting.loop import Task

F64 = torch.float64


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    k=st.integers(1, 12),
    seed=st.integers(0, 1000),
    spread=st.floats(0.0, 5.0),
    small=st.floats(-4.0, 0.0),
)
def test_it_solves_the_equation_whatever_the_scales(k, seed, spread, small):
    scales = 10 ** (spread * normal(k, seed=seed + 1, dtype=F64).tanh())
    J = scales[:, None] * normal(k, 50, seed=seed, dtype=F64)
    p = 10 ** (small * torch.rand(k, generator=torch.Generator().manual_seed(seed), dtype=F64)).to(DEVICE)
    alpha = bargain(J @ J.T, p, damping=0.0)
    assert (alpha > 0).all()
    assert_close(alpha * (J @ (J.T @ alpha)), p, rtol=1e-8, atol=0.0)


# The last one needs the line search to halve a step.
@pytest.mark.parametrize(("seed", "rank"), [*itertools.product(range(4), (1, 2, 8)), (164, 8)])
def test_many_losses_that_contradict_each_other_are_solved_too(seed, rank):
    J = normal(14, rank, seed=seed, dtype=F64)
    p = 10 ** (-4 * torch.rand(14, generator=torch.Generator().manual_seed(seed), dtype=F64)).to(DEVICE)
    damping = 1e-4
    alpha = bargain(J @ J.T, p, damping=damping)
    assert_close(alpha * (J @ (J.T @ alpha) + damping * J.square().sum(1) * alpha), p, rtol=1e-6, atol=0.0)


def test_rounding_ends_the_search():
    # So little damping that the least eigenvalue drowns in rounding.
    J = normal(14, 2, seed=1, dtype=F64)
    alpha = bargain(J @ J.T, torch.full((14,), 1e-3), damping=1e-12)
    assert (alpha > 0).all()
    assert alpha.isfinite().all()


def test_one_loss_is_in_closed_form():
    assert_close(bargain(torch.tensor([[16.0]]), torch.tensor([4.0]), damping=0.0), torch.tensor([0.5], dtype=F64))


def test_two_losses_are_in_closed_form():
    # With unit gradients of cosine c and p = 1 the solution is symmetric: α² (1 + c) = 1.
    for c in (-0.999, -0.5, 0.0, 0.9):
        G = torch.tensor([[1.0, c], [c, 1.0]], dtype=F64)
        assert_close(bargain(G, torch.ones(2), damping=0.0), torch.full((2,), (1 + c) ** -0.5, dtype=F64))


@pytest.mark.parametrize("damping", [1e-2, 1e-4, 1e-8])
def test_gradients_that_cancel_are_bounded_by_the_damping(damping):
    G = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64)
    alpha = bargain(G, torch.ones(2), damping=damping)
    assert_close(alpha, torch.full((2,), damping**-0.5, dtype=F64))


def test_a_zero_gradient_gets_nothing_and_changes_nothing():
    J = normal(3, 5, dtype=F64)
    J[1] = 0
    alpha = bargain(J @ J.T, torch.ones(3), damping=1e-4)
    assert alpha[1] == 0
    others = J[[0, 2]]
    assert_close(alpha[[0, 2]], bargain(others @ others.T, torch.ones(2), damping=1e-4))
    assert bargain(torch.zeros(2, 2), torch.ones(2), damping=1e-4).tolist() == [0.0, 0.0]
    slope = torch.ones(3, dtype=F64, device=DEVICE)
    assert sensitivity(J @ J.T, torch.ones(3), alpha, slope, damping=1e-4)[1] == 0
    zero = torch.zeros(2, dtype=F64)
    assert sensitivity(torch.zeros(2, 2), torch.ones(2), zero, torch.ones(2), damping=1e-4).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("damping", [0.0, 1e-2])
def test_the_derivative_is_that_of_the_solution(damping):
    J = torch.tensor([1.0, 100.0, 0.01, 3.0], dtype=F64)[:, None].to(DEVICE) * normal(4, 6, dtype=F64)
    G, p = J @ J.T, torch.tensor([0.3, 1.2, 0.5, 2.0], dtype=F64, device=DEVICE)
    slope = normal(4, seed=5, dtype=F64) * G.diagonal().sqrt()
    found = sensitivity(G, p, bargain(G, p, damping=damping), slope, damping=damping)
    eye = torch.eye(4, dtype=F64, device=DEVICE)
    exact = torch.stack(
        [
            slope @ (bargain(G, p + 1e-5 * e, damping=damping) - bargain(G, p - 1e-5 * e, damping=damping)) / 2e-5
            for e in eye
        ]
    )
    assert_close(found, exact, rtol=1e-6, atol=1e-7)


def test_nash_solves_the_step_and_shortens_it():
    step = Task().step()
    free, bound = NashMTL(max_norm=None, damping=0.0), NashMTL(max_norm=0.5, damping=0.0)
    for weighting in (free, bound):
        weighting.prepare(5, 0, 1)
    alpha, short = free.weights(step), bound.weights(step)
    G = step.gramian()
    assert_close(G @ alpha, 1 / alpha, rtol=1e-5, atol=0.0)
    assert (alpha @ G @ alpha).sqrt().item() == pytest.approx(5**0.5, rel=1e-5)
    assert (short @ G @ short).sqrt().item() == pytest.approx(0.5, rel=1e-5)
    assert_close(short / short.sum(), alpha / alpha.sum(), rtol=1e-5, atol=0.0)


def test_nash_leaves_a_short_step_as_it_is():
    w = torch.ones(3, dtype=F64, requires_grad=True)
    weighting = NashMTL(max_norm=2.0, damping=0.0)
    weighting.prepare(1, 0, 1)
    assert_close(weighting.weights(Step(w.sum()[None], (w,), 0, 0, 0.1)), torch.tensor([3**-0.5], dtype=F64))


@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")
def test_nash_agrees_with_torchjd():
    pytest.importorskip("cvxpy")
    pytest.importorskip("ecos")
    from torchjd.aggregation import NashMTL as Reference

    for seed in range(5):
        J = torch.tensor([1.0, 0.5, 3.0, 2.0], dtype=F64)[:, None] * normal(4, 10, seed=seed, dtype=F64).cpu()
        theirs = Reference(4, max_norm=0.0, optim_niter=100)(J)
        ours = bargain(J @ J.T, torch.ones(4), damping=0.0) @ J
        assert torch.nn.functional.cosine_similarity(theirs, ours, dim=0) > 0.999


@pytest.mark.parametrize(("change", "message"), [({"max_norm": -1.0}, "`max_norm`"), ({"damping": -1.0}, "`damping`")])
def test_settings_are_checked(change, message):
    with pytest.raises(InputError, match=message):
        NashMTL(**change)
