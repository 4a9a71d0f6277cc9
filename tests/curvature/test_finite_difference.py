"""Finite differences: the weights come back bit by bit, and every evaluation sees the same world."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from auxilearn import Vector, hypergradient
from auxilearn.curvature import FiniteDifference, Hessian
from auxilearn.errors import InputError
from auxilearn.safety import second_order
from auxilearn.solvers import Identity, OptimizerMetric
from support import DEVICE, Regression, close, matrix_of, normal


def identity(problem: Regression) -> list[tuple[int, int, Tensor]]:
    return [(id(w), w.data_ptr(), w.detach().clone()) for w in problem.weights]


def unchanged(problem: Regression, before: list[tuple[int, int, Tensor]]) -> bool:
    return all(a[:2] == b[:2] and torch.equal(a[2], b[2]) for a, b in zip(identity(problem), before, strict=True))


def test_the_weights_come_back_bit_by_bit_in_their_own_memory() -> None:
    problem = Regression()
    before = identity(problem)
    H = FiniteDifference(problem.loss, problem.weights)
    H @ problem.flat_weights()
    H.cross(problem.flat_weights(), [problem.phi])
    assert unchanged(problem, before)


def test_the_weights_come_back_when_the_closure_fails() -> None:
    problem = Regression()
    fails = False

    def closure() -> Tensor:
        if fails:
            raise KeyboardInterrupt
        return problem.loss()

    H = FiniteDifference(closure, problem.weights)
    fails, before, state = True, identity(problem), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        H @ problem.flat_weights()
    assert unchanged(problem, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_graph_made_before_stays_valid() -> None:
    problem = Regression()
    exact = torch.autograd.grad(problem.loss(), problem.weights)
    held = problem.loss()
    FiniteDifference(problem.loss, problem.weights) @ problem.flat_weights()
    found = torch.autograd.grad(held, problem.weights)
    assert all(map(torch.equal, found, exact))


def test_zero_needs_no_evaluation() -> None:
    problem, calls = Regression(), []

    def closure() -> Tensor:
        calls.append(1)
        return problem.loss()

    H = FiniteDifference(closure, problem.weights)
    zero = problem.flat_weights().zeros_like()
    assert float((H @ zero).norm()) == 0.0
    assert H.cross(zero, [problem.phi]) == (None,)
    assert len(calls) == 1  # the gradient at the start


def test_a_product_is_two_gradients_whatever_the_length() -> None:
    problem, calls = Regression(), []

    def closure() -> Tensor:
        calls.append(1)
        return problem.loss()

    H, v = FiniteDifference(closure, problem.weights), problem.flat_weights()
    products = [(H @ (factor * v)).flat() / factor for factor in (1e-12, 1.0, 1e12)]
    assert len(calls) == 1 + 2 * 3
    assert all(close(p, problem.hessian() @ v.flat(), 1e-6) for p in products)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_refused_unless_allowed(dtype: torch.dtype) -> None:
    w = torch.ones(3, dtype=dtype, device=DEVICE, requires_grad=True)

    def closure() -> Tensor:
        return w.float().square().sum()

    with pytest.raises(InputError, match=f"They are in {dtype}"):
        FiniteDifference(closure, [w])
    H = FiniteDifference(closure, [w], allow_low_precision=True)
    product = H @ Vector([torch.ones_like(w)])
    assert product.tensors[0].dtype == dtype
    assert close(product.flat().float(), torch.full_like(w, 2.0).float(), 0.1)


def test_float32_reaches_three_digits() -> None:
    w = normal(5, dtype=torch.float32).requires_grad_()
    H = FiniteDifference(lambda: (w**4).sum(), [w])
    v = normal(5, dtype=torch.float32, seed=1)
    assert close((H @ Vector([v])).flat(), 12 * w.detach() ** 2 * v, 5e-3)


def test_the_step_can_be_chosen() -> None:
    problem = Regression()
    v = problem.flat_weights()
    exact = problem.hessian() @ v.flat()

    def error(step: float) -> float:
        return float(((FiniteDifference(problem.loss, problem.weights, step=step) @ v).flat() - exact).norm())

    assert error(1e-5) < error(1e-2) < error(1e-1)


@pytest.mark.parametrize("step", [0.0, -1.0, float("inf")])
def test_the_step_is_positive(step: float) -> None:
    problem = Regression()
    with pytest.raises(InputError, match="`step` must be finite and above 0"):
        FiniteDifference(problem.loss, problem.weights, step=step)


def test_a_loss_instead_of_a_closure_is_refused() -> None:
    problem = Regression()
    with pytest.raises(InputError, match="`closure` must be a function"):
        FiniteDifference(problem.loss(), problem.weights)  # type: ignore[arg-type]


def test_a_closure_whose_loss_is_not_finite_is_refused() -> None:
    problem = Regression()
    with pytest.raises(InputError, match="`train_loss` must be finite"):
        FiniteDifference(lambda: problem.loss() * float("nan"), problem.weights)


def test_an_operator_with_a_first_derivative_only_is_served() -> None:
    class Cubed(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: torch.autograd.function.FunctionCtx, g: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
            return 3 * x**2 * g

    w = normal(4, dtype=torch.float64).requires_grad_()
    matrix = matrix_of(FiniteDifference(lambda: Cubed.apply(w).sum(), [w]), Vector([w.detach()]))
    assert close(matrix, torch.diag(6 * w.detach()), 1e-6)


def network(*layers: nn.Module) -> tuple[nn.Module, Callable[[], Tensor]]:
    model = nn.Sequential(nn.Linear(3, 4), *layers, nn.Linear(4, 1)).to(DEVICE, torch.float64)
    inputs = normal(16, 3, dtype=torch.float64)
    return model, lambda: model(inputs).square().mean()


def test_every_evaluation_sees_the_same_dropout_and_the_random_state_stays() -> None:
    model, loss = network(nn.Tanh(), nn.Dropout(0.5))
    params = list(model.parameters())
    like = Vector(p.detach() for p in params)
    state = torch.get_rng_state()
    found = FiniteDifference(loss, params) @ like
    assert torch.equal(torch.get_rng_state(), state)
    exact = Hessian(loss(), params) @ like  # drawn from the state that the operator remembered
    assert close(found.flat(), exact.flat(), 1e-6)


def test_batch_norm_statistics_stay_inside_second_order() -> None:
    model, loss = network(nn.BatchNorm1d(4), nn.Tanh())
    norm = model[1]  # type: ignore[index]
    before = {name: b.clone() for name, b in norm.named_buffers()}

    def closure() -> Tensor:
        with second_order(model):
            return loss()

    params = list(model.parameters())
    like = Vector(p.detach() for p in params)
    found = FiniteDifference(closure, params) @ like
    assert all(torch.equal(b, before[name]) for name, b in norm.named_buffers())
    assert close(found.flat(), (Hessian(closure(), params) @ like).flat(), 1e-6)


def first_order(problem: Regression, *, step: float | None = None) -> tuple[Tensor, int]:
    """Return the hypergradient by first derivatives only, and how often the training loss was computed."""
    calls: list[int] = []

    def closure() -> Tensor:
        calls.append(1)
        return problem.loss()

    H = FiniteDifference(closure, problem.weights, step=step, probe=False)
    outer = problem.outputs().square().mean() + problem.phi.sum()
    result = hypergradient(H, outer, params=(), aux_params=[problem.phi], solver=Identity())
    return result.grads[0], len(calls)


def test_with_the_identity_a_hypergradient_is_the_formula_of_darts() -> None:
    problem = Regression()
    outer = problem.outputs().square().mean() + problem.phi.sum()
    v = torch.autograd.grad(outer, problem.weights)
    epsilon = 0.01 / float(torch.cat([t.flatten() for t in v]).norm())

    def slope(sign: float) -> Tensor:
        moved = [w + sign * epsilon * t for w, t in zip(problem.weights, v, strict=True)]
        return torch.autograd.grad(problem.loss_of_outputs(problem.outputs(moved)), problem.phi)[0]

    darts = 1.0 - (slope(1.0) - slope(-1.0)) / (2 * epsilon)  # ∂_φ L_A − the difference
    found, calls = first_order(problem, step=0.01 / (1 + float(problem.flat_weights().norm())))
    assert close(found, darts, 1e-10)
    assert calls == 2


def test_the_mixed_product_errs_by_the_square_of_the_step() -> None:
    problem = Regression()
    v = torch.autograd.grad(problem.outputs().square().mean(), problem.weights)
    exact = 1.0 - problem.mixed().T @ torch.cat([t.flatten() for t in v])
    errors = [float((first_order(problem, step=0.02 / 2**k)[0] - exact).norm()) for k in range(4)]
    assert [a / b for a, b in pairwise(errors)] == pytest.approx([4.0] * 3, rel=0.05)
    assert close(first_order(problem)[0], exact, 1e-8)


def test_with_the_identity_no_graph_is_differentiated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, whole = Regression(), torch.autograd.grad

    def watched(*args: object, **kwargs: object) -> object:
        assert not kwargs.get("create_graph")
        return whole(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.autograd, "grad", watched)
    assert first_order(problem)[1] == 2


def test_without_a_probe_the_gradient_is_taken_when_asked_for() -> None:
    problem, calls = Regression(), []

    def closure() -> Tensor:
        calls.append(1)
        return problem.loss()

    H = FiniteDifference(closure, problem.weights, probe=False)
    assert not calls
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(problem.loss(), problem.weights)])
    assert torch.equal(H.gradient().flat(), exact)
    assert torch.equal(H.gradient().flat(), exact)
    assert len(calls) == 1


def test_without_a_probe_a_bad_closure_is_refused_at_its_first_use() -> None:
    problem = Regression()
    H = FiniteDifference(lambda: problem.outputs(), problem.weights, probe=False)
    with pytest.raises(InputError, match="`train_loss` must be a scalar"):
        H @ problem.flat_weights()


def test_a_preconditioned_identity_steps_along_the_metric_of_the_optimizer() -> None:
    problem = Regression()
    optimizer = torch.optim.Adam(problem.weights, lr=0.01)
    problem.loss().backward(inputs=problem.weights)
    optimizer.step()
    outer = problem.outputs().square().mean()
    metric = OptimizerMetric(optimizer)
    P, _ = metric.read(problem.weights)
    v = torch.cat([t.flatten() for t in torch.autograd.grad(outer, problem.weights)])
    H = FiniteDifference(problem.loss, problem.weights, probe=False)
    outer = problem.outputs().square().mean()
    found = hypergradient(H, outer, params=(), aux_params=[problem.phi], solver=Identity(preconditioner=metric))
    assert close(found.grads[0], -problem.mixed().T @ (P.flat() * v), 1e-8)
