"""The check passes where the hypergradient is right, and names the reason where it is not."""

import pytest
import torch
from problems import ridge, tanh_mlp
from torch import Tensor, nn

from auxilearn import BilevelProblem, check_hypergradient
from auxilearn.solvers import ConjugateGradient, Identity, Nystrom

F64 = torch.float64
EXACT = ConjugateGradient(max_steps=300, tolerance=1e-12)


def test_ridge_passes_and_prints_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    check = check_hypergradient(ridge().problem, solver=EXACT, tolerance=1e-5, directions=3)
    assert check.passed
    assert check.errors["solver"] < 1e-6
    assert check.errors["exact implicit"] < 1e-6
    printed = capsys.readouterr().out
    assert "The hypergradient is right." in printed
    assert "unrolled" in printed


def test_a_network_passes_in_every_coordinate() -> None:
    check = check_hypergradient(tanh_mlp(), solver=EXACT, tolerance=1e-5, unroll_steps=500, verbose=False)
    assert check.passed
    assert check.slopes["solver"].shape == (4,)
    assert check.errors["unrolled"] < 1e-2


def test_a_rough_solver_is_told_from_a_bad_problem() -> None:
    check = check_hypergradient(ridge().problem, solver=Identity(), verbose=False)
    assert not check.passed
    assert "the solver is not accurate enough" in check.verdict


def test_a_degenerate_minimum_is_told() -> None:
    # Every point with w₀ = φ is a minimum in w₁; the outer loss depends on w₁, which re-training does not move.
    problem = BilevelProblem(
        train_loss=lambda W, phi: (W[0][0] - phi[0]).square() * (1 + W[0][1].square()),
        val_loss=lambda W, phi: W[0][0] + W[0][1] * phi[0],
        params=(torch.tensor([0.0, 1.0], dtype=F64),),
        aux_params=(torch.tensor(2.0, dtype=F64),),
    )
    check = check_hypergradient(problem, solver=EXACT, verbose=False)
    assert check.stationarity < 1e-4


def test_a_kinked_train_loss_is_told() -> None:
    problem = BilevelProblem(
        train_loss=lambda W, phi: (W[0] - phi[0]).abs().sum() + (W[0] - phi[0]).square().sum(),
        val_loss=lambda W, phi: W[0].square().sum(),
        params=(torch.tensor([1.0], dtype=F64),),
        aux_params=(torch.tensor([0.3], dtype=F64),),
    )
    check = check_hypergradient(problem, solver=EXACT, verbose=False)
    assert not check.passed
    assert "was not solved" in check.verdict


def test_a_loss_that_depends_on_a_hidden_variable_is_told() -> None:
    def outer(W: tuple[Tensor, ...], phi: tuple[Tensor, ...]) -> Tensor:
        return W[0].square().sum() * (1.0 + phi[0].detach().square().sum())  # a part of φ's effect is cut off

    problem = BilevelProblem(
        train_loss=lambda W, phi: (W[0] - phi[0]).square().sum(),
        val_loss=outer,
        params=(torch.tensor([1.0], dtype=F64),),
        aux_params=(torch.tensor([2.0], dtype=F64),),
    )
    check = check_hypergradient(problem, solver=EXACT, verbose=False)
    assert not check.passed
    assert "Even the exact inverse disagrees" in check.verdict


def test_a_saddle_is_told() -> None:
    # L-BFGS starts on the ridge w₁ = 0 and stays on it: a stationary point, but no minimum.
    problem = BilevelProblem(
        train_loss=lambda W, phi: (W[0][0] - phi[0]).square() - W[0][1].square() + W[0][1] ** 4,
        val_loss=lambda W, phi: W[0][0].square() + W[0][1],
        params=(torch.tensor([0.0, 0.0], dtype=F64),),
        aux_params=(torch.tensor(2.0, dtype=F64),),
    )
    check = check_hypergradient(problem, solver=Nystrom(rank=2), verbose=False)
    assert not check.passed
    assert "not positive definite" in check.verdict


def test_more_weights_than_a_dense_matrix_can_hold() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(2100, 1, bias=False).double(), torch.randn(20, 2100, dtype=F64) / 50
    decay = nn.ParameterList([torch.zeros((), dtype=F64)])

    def train() -> Tensor:
        return (model(x)[:, 0] - 1).square().mean() + decay[0].exp() * model.weight.square().sum()

    problem = BilevelProblem.from_modules([model], [decay], train, lambda: (model(x)[:, 0] - 0.5).square().mean())
    check = check_hypergradient(problem, solver=EXACT, verbose=False)
    assert "exact implicit" not in check.slopes
    assert check.passed
