"""What holds for every curvature operator, against matrices from torch.autograd.functional."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from auxilearn import Vector
from auxilearn.curvature import CurvatureOperator, FiniteDifference, GaussNewton, Hessian, LossCurvature, Streamed
from auxilearn.errors import InputError
from support import DEVICE, Matrix, Regression, close, matrix_of, normal


def gauss_newton(problem: Regression, params: list[Tensor], damping: float) -> LossCurvature:
    outputs = problem.outputs()
    return GaussNewton(problem.loss_of_outputs(outputs), outputs, params, damping=damping)


def streamed(problem: Regression, params: list[Tensor], damping: float) -> LossCurvature:
    # 0.5 and 1.5 times the loss have the loss as their mean.
    return Streamed(lambda factor: Hessian(factor * problem.loss(), params), [0.5, 1.5], damping=damping)


Make = Callable[[Regression, list[Tensor], float], LossCurvature]
OPERATORS: dict[str, Make] = {
    "hessian": lambda problem, params, damping: Hessian(problem.loss(), params, damping=damping),
    "gauss_newton": gauss_newton,
    "finite_difference": lambda problem, params, damping: FiniteDifference(problem.loss, params, damping=damping),
    "streamed": streamed,
}
every_operator = pytest.mark.parametrize("name", OPERATORS)


def made(name: str, problem: Regression, params: list[Tensor] | None = None, damping: float = 0.0) -> LossCurvature:
    return OPERATORS[name](problem, problem.weights if params is None else params, damping)


def tolerance(name: str) -> float:
    return 1e-6 if name == "finite_difference" else 1e-12


def truth(name: str, problem: Regression) -> Tensor:
    return problem.gauss_newton() if name == "gauss_newton" else problem.hessian()


def some_vector(problem: Regression, seed: int = 7) -> Vector:
    return problem.flat_weights().randn_like(torch.Generator().manual_seed(seed))


@every_operator
def test_products_are_those_of_the_matrix(name: str) -> None:
    problem = Regression()
    found = matrix_of(made(name, problem), problem.flat_weights())
    assert close(found, truth(name, problem), tolerance(name))
    assert close(found, found.T, tolerance(name))


@every_operator
def test_products_are_linear(name: str) -> None:
    problem = Regression()
    H, u, v = made(name, problem), some_vector(problem), some_vector(problem, 8)
    assert close((H @ u.add(v, scale=-3.0)).flat(), (H @ u).add(H @ v, scale=-3.0).flat(), tolerance(name))
    assert float((H @ u.zeros_like()).norm()) == 0.0


@every_operator
def test_damping_is_added_to_the_diagonal(name: str) -> None:
    problem = Regression()
    v = some_vector(problem)
    plain, damped = made(name, problem) @ v, made(name, problem, damping=0.25) @ v
    torch.testing.assert_close(damped.flat(), plain.add(v, scale=0.25).flat())


@every_operator
def test_every_product_is_counted_and_nothing_is_changed(name: str) -> None:
    problem = Regression()
    v, state = some_vector(problem), torch.get_rng_state()
    before = v.flat(), problem.flat_weights().flat()
    H = made(name, problem, damping=0.1)
    assert H.products == 0
    H @ v, H @ v
    H.gradient()
    H.cross(v, [problem.phi])
    assert H.products == 2
    assert torch.equal(v.flat(), before[0])
    assert torch.equal(problem.flat_weights().flat(), before[1])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(w.grad is None for w in [*problem.weights, problem.phi])


@every_operator
def test_the_gradient_is_that_of_the_loss_without_a_graph(name: str) -> None:
    problem = Regression()
    found = made(name, problem).gradient()
    assert not any(t.requires_grad for t in found)
    exact = Vector(torch.autograd.grad(problem.loss(), problem.weights))
    assert close(found.flat(), exact.flat(), 1e-12)


@every_operator
def test_cross_is_the_mixed_derivative(name: str) -> None:
    problem = Regression()
    x = some_vector(problem)
    (found,) = made(name, problem).cross(x, [problem.phi])
    assert found is not None
    # Gauss-Newton stands in for the curvature only: the mixed derivative is the exact one.
    assert close(found, problem.mixed().T @ x.flat(), tolerance(name))


@every_operator
def test_auxiliary_parameters_out_of_reach_give_none(name: str) -> None:
    problem = Regression()
    elsewhere = torch.ones(2, dtype=torch.float64, device=DEVICE, requires_grad=True)
    found = made(name, problem).cross(some_vector(problem), [elsewhere, problem.phi])
    assert found[0] is None
    assert found[1] is not None


@every_operator
def test_weights_that_are_unused_or_frozen_are_left_out(name: str) -> None:
    problem = Regression()
    unused = nn.Parameter(normal(4, dtype=torch.float64))
    A, b, C = problem.weights
    b.requires_grad_(False)
    H = made(name, problem, [unused, A, b, C])
    assert [id(p) for p in H.params] == [id(A), id(C)]
    like = Vector(p.detach() for p in H.params)
    kept = [*range(6), *range(9, 15)]
    b.requires_grad_(True)
    exact = truth(name, problem)[kept][:, kept]
    b.requires_grad_(False)
    assert close(matrix_of(H, like), exact, tolerance(name))


@every_operator
def test_a_loss_that_reaches_no_weight_is_refused(name: str) -> None:
    unused = nn.Parameter(normal(4, dtype=torch.float64))
    with pytest.raises(InputError, match="`params` must reach `train_loss`"):
        made(name, Regression(), [unused])


@every_operator
@pytest.mark.parametrize("damping", [-0.1, math.nan, math.inf])
def test_damping_must_be_a_size(name: str, damping: float) -> None:
    with pytest.raises(InputError, match="`damping` must be finite and at least 0"):
        made(name, Regression(), damping=damping)


@every_operator
def test_an_operator_can_be_released(name: str) -> None:
    problem = Regression()
    H = made(name, problem)
    H.release()
    if name in {"hessian", "gauss_newton"}:  # the others hold no graph
        for use in (lambda: H @ some_vector(problem), H.gradient, lambda: H.cross(some_vector(problem), [problem.phi])):
            with pytest.raises(InputError, match="after `release\\(\\)`"):
                use()
    else:
        H @ some_vector(problem)


def test_an_operator_of_ones_own_needs_the_product_only() -> None:
    class Twice(CurvatureOperator):
        def _multiply(self, v: Vector, /) -> Vector:
            return 2 * v

    v = Vector([normal(3)])
    assert torch.equal((Twice() @ v).flat(), 2 * v.flat())
    assert Twice().damping == 0.0


def test_a_matrix_acts_on_blocks() -> None:
    matrix = normal(5, 5)
    v = Vector([normal(2, seed=1), normal(3, seed=2)])
    torch.testing.assert_close((Matrix(matrix, damping=0.5) @ v).flat(), matrix @ v.flat() + 0.5 * v.flat())
