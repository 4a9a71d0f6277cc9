"""Usefulness against the slope of the re-trained outer loss, and its standard error."""

import pytest
import torch
from problems import minimised, table, tanh_mlp
from torch import Tensor
from torch.nn.functional import softplus

from auxilearn import usefulness
from auxilearn.curvature import Hessian
from auxilearn.errors import InputError, SolverError
from auxilearn.solvers import ConjugateGradient, Dense, Identity, Neumann

F64 = torch.float64


def auxiliary(W: tuple[Tensor, ...]) -> list[Tensor]:
    d = table()
    x, y = d.x[:, :8], d.y
    z = torch.tanh(x @ W[0] + W[1]) @ W[2] + W[3]
    return [softplus(-y * z).mean(), softplus(y * z).mean(), (z - x[:, 0]).square().mean()]


def test_scores_are_minus_the_slope_of_the_retrained_outer_loss() -> None:
    problem = tanh_mlp()
    W = tuple(w.clone().requires_grad_() for w in problem.params)
    losses = problem.train_loss(W, problem.aux_params), problem.val_loss(W, problem.aux_params)
    found = usefulness([(*losses, torch.stack(auxiliary(W)))], params=W, solver=Dense())
    h = 1e-5
    for k, score in enumerate(found.score):

        def outer_after_training_with(weight: float, k: int = k) -> float:
            def train(V: tuple[Tensor, ...]) -> Tensor:
                return problem.train_loss(V, problem.aux_params) + weight * auxiliary(V)[k]

            return float(problem.val_loss(minimised(train, problem.params), problem.aux_params))

        slope = (outer_after_training_with(h) - outer_after_training_with(-h)) / (2 * h)
        assert float(score) == pytest.approx(-slope, rel=1e-4)
    assert bool(found.standard_error.isnan().all())  # one batch tells nothing about the error


def line(target: float, w: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    return w.square().sum() / 2, (w - target).square().sum(), [(w - 1).square().sum(), (w + 1).square().sum()]


def test_mean_and_standard_error_are_over_batches() -> None:
    w = torch.zeros(1, dtype=F64, requires_grad=True)
    targets = [0.5, 1.5, 4.0]
    found = usefulness((line(t, w) for t in targets), params=[w], solver=Identity())
    samples = torch.tensor([[4 * t, -4 * t] for t in targets], dtype=F64)
    torch.testing.assert_close(found.samples, samples)
    torch.testing.assert_close(found.score, samples.mean(0))
    torch.testing.assert_close(found.standard_error, samples.std(0) / 3**0.5)
    torch.testing.assert_close(found.t, found.score / found.standard_error)


def test_an_operator_can_stand_for_the_train_loss() -> None:
    w = torch.zeros(1, dtype=F64, requires_grad=True)
    train, outer, losses = line(0.5, w)
    by_loss = usefulness([(train, outer, losses)], params=[w], solver=ConjugateGradient(), damping=1.0)
    train, outer, losses = line(0.5, w)
    operator = Hessian(train, [w], damping=1.0)
    by_operator = usefulness([(operator, outer, losses)], params=[w], solver=ConjugateGradient())
    assert torch.equal(by_loss.score, by_operator.score)


def test_a_loss_without_effect_scores_zero() -> None:
    w, other = torch.zeros(1, dtype=F64, requires_grad=True), torch.ones(1, dtype=F64, requires_grad=True)
    train, outer, losses = line(0.5, w)
    found = usefulness([(train, outer, [losses[0], other.sum()])], params=[w], solver=Identity())
    assert found.score[1] == 0.0
    constants = torch.ones(2, dtype=F64)
    train, outer, _ = line(0.5, w)
    assert usefulness([(train, outer, constants)], params=[w]).score.tolist() == [0.0, 0.0]
    train, outer, _ = line(0.5, w)
    unrelated = torch.stack([other.sum(), 2 * other.sum()])
    assert usefulness([(train, outer, unrelated)], params=[w]).score.tolist() == [0.0, 0.0]


def test_bad_input_is_named() -> None:
    w = torch.zeros(1, dtype=F64, requires_grad=True)
    train, outer, losses = line(0.5, w)
    with pytest.raises(InputError, match="at least one batch"):
        usefulness([], params=[w])
    with pytest.raises(InputError, match="K scalars"):
        usefulness([(train, outer, torch.stack(losses)[None])], params=[w])
    with pytest.raises(InputError, match=r"index \[1\]"):
        usefulness([(train, outer, [losses[0], losses[1] * float("nan")])], params=[w])
    with pytest.raises(InputError, match="2, then 1"):
        usefulness([line(0.5, w), (*line(0.5, w)[:2], losses[:1])], params=[w])
    with pytest.raises(SolverError, match="diverged"):
        usefulness([line(0.5, w)], params=[w], solver=Neumann(alpha=10.0, terms=20))
