"""Unrolling against the Neumann series at a minimum, and against finite differences elsewhere."""

import pytest
import torch
from problems import tanh_mlp
from torch import Tensor

from auxilearn import BilevelProblem, hypergradient, unrolled
from auxilearn.solvers import Neumann

F64 = torch.float64
A = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=F64)


def quadratic(start: Tensor, phi: Tensor) -> BilevelProblem:
    return BilevelProblem(
        train_loss=lambda W, phi: W[0] @ A @ W[0] / 2 - phi[0] @ W[0],
        val_loss=lambda W, phi: W[0].square().sum() + phi[0].sum(),
        params=(start,),
        aux_params=(phi,),
    )


def test_from_a_minimum_k_steps_are_k_neumann_terms() -> None:
    phi = torch.tensor([1.0, -1.0], dtype=F64)
    problem = quadratic(torch.linalg.solve(A, phi), phi)
    W, p = (problem.params[0].clone().requires_grad_(),), (phi.clone().requires_grad_(),)
    series = hypergradient(
        problem.train_loss(W, p), problem.val_loss(W, p), params=W, aux_params=p, solver=Neumann(terms=4, alpha=0.3)
    )
    torch.testing.assert_close(unrolled(problem, steps=5, lr=0.3).grads[0], series.grads[0])


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_away_from_a_minimum_it_is_the_derivative_of_training(momentum: float) -> None:
    start, phi, h = torch.tensor([3.0, 1.0], dtype=F64), torch.tensor([1.0, -1.0], dtype=F64), 1e-6

    def trained(p: Tensor) -> float:
        return unrolled(quadratic(start, p), steps=7, lr=0.2, momentum=momentum).val_loss

    found = unrolled(quadratic(start, phi), steps=7, lr=0.2, momentum=momentum).grads[0]
    for j, e in enumerate(torch.eye(2, dtype=F64)):
        assert float(found[j]) == pytest.approx((trained(phi + h * e) - trained(phi - h * e)) / (2 * h), rel=1e-7)


def test_no_steps_leave_the_direct_term() -> None:
    result = unrolled(quadratic(torch.ones(2, dtype=F64), torch.ones(2, dtype=F64)), steps=0, lr=0.1)
    assert torch.equal(result.grads[0], torch.ones(2, dtype=F64))
    assert torch.equal(result.params[0], torch.ones(2, dtype=F64))


def test_the_problem_is_not_changed() -> None:
    problem = tanh_mlp()
    before = [w.clone() for w in problem.params]
    unrolled(problem, steps=3, lr=0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, problem.params, strict=True))
