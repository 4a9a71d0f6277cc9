"""Penalties as upper parameters: inner optima, their hypergradients, what methods read, and that each of them runs."""

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from auxilearn.errors import InputError
from auxilearn.experiments.hpo._experiment import HPO, LAYERS, LINEAR, logistic, ridge
from auxilearn.experiments.hpo._inner import Inner
from auxilearn.experiments.hpo._linear import LinearModel
from auxilearn.experiments.hpo._methods import OURS, Settings, hpo_methods
from auxilearn.experiments.hpo._network import Network
from auxilearn.experiments.hpo._pictures import draw_penalties
from auxilearn.experiments.hpo._rules import implicit, one_step, original
from auxilearn.experiments.hpo._search import descend, grid
from auxilearn.experiments.hpo._task import HpoTask, diabetes_task, image_task, with_products
from auxilearn.solvers import ConjugateGradient, Dense, Identity
from auxilearn.verification import check_hypergradient

SHORT = dataclasses.replace(LINEAR, points=4, steps=3)
SHORT_LAYERS = dataclasses.replace(LAYERS, points=3, steps=2)


def small_net(task: HpoTask, seed: int) -> Network:
    return Network(task, widths=(6,), steps=10, lr=0.02, seed=seed)


def narrow(task: HpoTask, features: int = 6) -> HpoTask:
    """Keep features of every kind."""
    at = torch.linspace(0, task.x.shape[1] - 1, features).long()
    kinds = tuple(task.kinds[i] for i in at)
    return dataclasses.replace(task, x=task.x[:, at], test_x=task.test_x[:, at], kinds=kinds)


def at_random(size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1.0


@pytest.fixture(scope="module")
def regression() -> HpoTask:
    return narrow(diabetes_task(labels=40, seed=100))


@pytest.fixture(scope="module")
def binary() -> HpoTask:
    return narrow(diabetes_task(labels=60, seed=100, classes=True))


def test_ridge_is_that_of_scikit_learn() -> None:
    linear_model: Any = pytest.importorskip("sklearn.linear_model")
    task, theta = diabetes_task(labels=120, seed=100), at_random(65)
    model = LinearModel(task, "squared")
    (weights,) = model.solve(theta, model.kept)
    for kept, found in zip(model.kept, weights, strict=True):
        # A penalty each is one penalty on columns that are divided by the roots of theirs.
        scale = (-theta / 2).exp()
        truth = linear_model.Ridge(alpha=int(kept.sum()), solver="cholesky")
        truth.fit((task.x[kept] * scale).numpy(), task.y[kept].numpy())
        torch.testing.assert_close(found[:-1], torch.from_numpy(truth.coef_) * scale, rtol=1e-7, atol=1e-9)
        assert float(found[-1]) == pytest.approx(truth.intercept_, abs=1e-9)


def test_logistic_is_that_of_scikit_learn(binary: HpoTask) -> None:
    linear_model: Any = pytest.importorskip("sklearn.linear_model")
    model = logistic(binary, 0)
    (weights,) = model.solve(torch.full((6,), math.log(0.1)).double(), torch.ones(1, 60).bool())
    truth = linear_model.LogisticRegression(C=1 / (0.1 * 60), tol=1e-10, max_iter=1000)
    truth.fit(binary.x.numpy(), binary.y.numpy())
    torch.testing.assert_close(weights[0, :-1], torch.from_numpy(truth.coef_[0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_the_hypergradient_is_that_of_the_retrained_optimum(
    loss: Literal["squared", "logistic"], regression: HpoTask, binary: HpoTask
) -> None:
    model = LinearModel(regression if loss == "squared" else binary, loss, tolerance=1e-13)
    theta, prior = at_random(6), 0.3

    def outer(theta: Tensor) -> float:
        problem = model.problem(theta, prior=prior)
        return problem.val_loss(problem.params, problem.aux_params).item()

    exact = implicit(Dense())(model.problem(theta, prior=prior))
    iterated = implicit(ConjugateGradient(max_steps=200, tolerance=1e-10))(model.problem(theta, prior=prior))
    steps = 1e-4 * torch.eye(6, dtype=torch.float64)
    slopes = torch.tensor([(outer(theta + step) - outer(theta - step)) / 2e-4 for step in steps]).double()
    torch.testing.assert_close(exact, slopes, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(iterated, exact, rtol=1e-6, atol=1e-9)


def test_the_networks_hypergradient_is_that_of_the_retrained_optimum() -> None:
    # Every fold trains on every class: the unpenalised bias of an absent one has no optimum.
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(10).repeat_interleave(5)
    noise = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(10, 3, generator=generator, dtype=torch.float64)[y] + 0.3 * noise
    net = Network(HpoTask(x, y, x, y, ("feature",) * 3), widths=(), steps=300, lr=0.05, seed=0)
    problem = net.problem(torch.tensor([-3.0], dtype=torch.float64), prior=0.0)
    check = check_hypergradient(problem, solver=Dense(), unroll_steps=1, tolerance=1e-5, verbose=False)
    assert check.passed, str(check)
    assert float(check.slopes["retrained"].abs()) > 1e-3


def test_each_layer_has_its_own_decay() -> None:
    task = image_task("digits", labels=40, seed=100)
    net, theta = small_net(task, 0), torch.tensor([-1.0, 2.0])
    params = net.solve(theta, net.kept)
    slow = sum(theta[i].exp() * params[2 * i].square().sum() / 2 for i in range(2))
    torch.testing.assert_close(net.penalty(params, theta), slow)
    first, last = (w.double() for w in (params[0][1], params[2][1]))
    logits = torch.nn.functional.silu(task.x.double() @ first + params[1][1]) @ last + params[3][1]
    found = net.losses(params)[1].double()
    torch.testing.assert_close(found, -logits.log_softmax(-1)[range(40), task.y], rtol=1e-4, atol=1e-5)


def test_rivals_see_no_curvature(regression: HpoTask) -> None:
    problem = ridge(regression, 0).problem(at_random(6), prior=0.0)
    plain = implicit(Identity())(problem)
    torch.testing.assert_close(one_step(0.5)(problem), 0.5 * plain)
    torch.testing.assert_close(original()(problem), 4 * plain, rtol=1e-2, atol=1e-4)


def test_the_losses_are_their_formulas(regression: HpoTask) -> None:
    model, theta = ridge(regression, 0), at_random(6)
    problem = model.problem(theta, prior=0.7)
    (weights,) = problem.params
    inner = outer = torch.zeros(()).double()
    for m, w in enumerate(weights):
        loss = (regression.x @ w[:-1] + w[-1] - regression.y).square() / 2
        held = torch.arange(40) % 5 == m
        inner = inner + loss[~held].mean() + (theta.exp() * w[:-1].square()).sum() / 2
        outer = outer + loss[held].mean() / 5
    groups = [theta[[k == word for k in regression.kinds]] for word in set(regression.kinds)]
    outer = outer + 0.7 * torch.cat([g - g.mean() for g in groups]).square().mean()
    torch.testing.assert_close(problem.train_loss(problem.params, problem.aux_params), inner)
    torch.testing.assert_close(problem.val_loss(problem.params, problem.aux_params), outer)


def test_separable_rows_have_an_optimum() -> None:
    x = torch.linspace(-1, 1, 10, dtype=torch.float64)[:, None]
    model = logistic(HpoTask(x, (x[:, 0] > 0).double(), x, x[:, 0], ("feature",)), 0)
    (weights,) = model.solve(torch.tensor([-18.0]).double(), model.kept)
    assert bool(weights.isfinite().all())
    assert float(model.losses((weights,))[model.kept].max()) < 1e-3


def test_descent_lowers_the_outer_loss(regression: HpoTask) -> None:
    inner = ridge(regression, 0)
    start = grid(inner, LINEAR.values(torch.float64))
    found = descend(inner, start, implicit(Dense()), steps=30, lr=0.2, prior=0.0)
    assert found.outer[0] == pytest.approx(min(start.outer))
    assert found.outer[-1] < found.outer[0] - 1e-4
    assert torch.equal(start.theta, start.theta[:1].expand(6))  # the start is not written


CASES = {
    "ridge": (ridge, SHORT, partial(diabetes_task, labels=40)),
    "logistic": (logistic, SHORT, partial(diabetes_task, labels=40, classes=True)),
    "network": (small_net, SHORT_LAYERS, partial(image_task, "digits", labels=40)),
}


@pytest.mark.parametrize("case", CASES)
def test_every_method_has_a_score_and_reads_no_test_row(case: str) -> None:
    model, settings, draw = CASES[case]
    task: HpoTask = draw(seed=100)
    blind = dataclasses.replace(task, test_x=task.test_x.flip(0), test_y=task.test_y.flip(0) * 0 + 3)
    found = {}
    for name, method in hpo_methods(model, settings).items():
        found[name] = method(task, 100)
        assert math.isfinite(found[name].score)
        assert found[name].seconds > 0
        assert len(found[name].details["log penalties"]) == len(found[name].details["of"])
        assert method(blind, 100).details == found[name].details
    assert found["random search"].details["models"] >= found[OURS].details["models"]
    assert found["random search"].details["log penalties"] != found[OURS].details["log penalties"]


def test_learned_penalties_are_drawn(tmp_path: Path) -> None:
    methods = hpo_methods(ridge, SHORT)
    task = diabetes_task(labels=40, seed=100)
    draw_penalties({"cell": {OURS: {100: methods[OURS](task, 100)}}}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
    draw_penalties({"cell": {"no penalty": {}}}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_a_seed_is_a_task() -> None:
    first, again, other = (diabetes_task(labels=50, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, other.x)
    torch.testing.assert_close(first.x.mean(0), torch.zeros(65).double())
    assert len(first.y) + len(first.test_y) == 442


def test_products_are_products() -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    columns, kinds = with_products(x)
    slow = [x[:, i] * x[:, j] for i in range(3) for j in range(i, 3)]
    assert torch.equal(columns, torch.cat([x, torch.stack(slow, 1)], 1))
    assert [kinds.count(word) for word in ("feature", "square", "product")] == [3, 3, 3]


@pytest.mark.parametrize("labels", [5, 442, 10_000])
def test_impossible_sizes_are_named(labels: int) -> None:
    with pytest.raises(InputError, match="must"):
        diabetes_task(labels=labels, seed=0)
    with pytest.raises(InputError, match="must"):
        image_task("digits", labels=max(labels, 1797) if labels > 10 else labels, seed=0)


def test_folds_hold_every_row_out_once() -> None:
    inner: Inner = ridge(diabetes_task(labels=43, seed=0), 0)
    assert torch.equal((~inner.kept).sum(0), torch.ones(43, dtype=torch.long))


def test_the_experiment_has_three_cells() -> None:
    assert [len(cell.methods) for cell in HPO.cells] == [7, 7, 7]
    assert all(next(iter(cell.methods)) == "no penalty" and HPO.ours in cell.methods for cell in HPO.cells)
    assert isinstance(LINEAR, Settings)
    assert LINEAR.points >= 15
    assert LAYERS.points >= 15
    assert [len(cell.task(5).y) for cell in HPO.cells] == [120, 150, 100]
