"""The Hessian of losses whose graph is at hand: the cases that its shortcuts must get right."""

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from auxilearn import Vector
from auxilearn.curvature import Hessian
from auxilearn.errors import InputError, SecondOrderError
from support import DEVICE, DTYPE, Regression, close, matrix_of, normal


def leaf(*shape: int, seed: int = 0) -> Tensor:
    return normal(*shape, seed=seed).requires_grad_()


def test_a_loss_linear_in_some_weights_has_no_curvature_there() -> None:
    a, b = leaf(2), leaf(2, seed=1)
    H = Hessian((a**3).sum() + 2 * b.sum(), [a, b])
    product = H @ Vector([torch.ones_like(a), torch.ones_like(b)])
    torch.testing.assert_close(product.tensors[0], 6 * a.detach())
    assert torch.equal(product.tensors[1], torch.zeros_like(b))


def test_a_loss_linear_in_all_weights_has_no_curvature_at_all() -> None:
    a = leaf(2)
    H = Hessian(3 * a.sum(), [a])
    v = Vector([torch.ones_like(a)])
    assert torch.equal((H @ v).tensors[0], torch.zeros_like(a))
    assert H.cross(v, [leaf(2)]) == (None,)
    assert torch.equal(H.gradient().tensors[0], torch.full_like(a, 3.0))


def test_a_loss_linear_in_the_weights_still_has_a_mixed_derivative() -> None:
    a, phi = leaf(2), leaf(2, seed=1)
    H = Hessian((a * phi).sum(), [a])
    v = Vector([normal(2, seed=2)])
    assert torch.equal((H @ v).tensors[0], torch.zeros_like(a))
    (found,) = H.cross(v, [phi])
    assert found is not None
    assert torch.equal(found, v.tensors[0])


@pytest.mark.parametrize("scale", [2.0**16, 1e-3])
def test_a_loss_scale_is_divided_out_of_everything(scale: float) -> None:
    problem = Regression()
    plain = Hessian(problem.loss(), problem.weights, damping=0.3)
    scaled = Hessian(problem.loss(), problem.weights, damping=0.3, loss_scale=scale)
    x = problem.flat_weights()
    assert close((scaled @ x).flat(), (plain @ x).flat(), 1e-12)
    assert close(scaled.gradient().flat(), plain.gradient().flat(), 1e-12)
    nowhere = leaf(1)
    (found, nothing), (exact, _) = scaled.cross(x, [problem.phi, nowhere]), plain.cross(x, [problem.phi, nowhere])
    assert found is not None
    assert exact is not None
    assert nothing is None
    assert close(found, exact, 1e-12)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_loss_scale_is_positive(scale: float) -> None:
    problem = Regression()
    with pytest.raises(InputError, match="`loss_scale` must be finite and above 0"):
        Hessian(problem.loss(), problem.weights, loss_scale=scale)


def test_release_frees_the_graph() -> None:
    w = leaf(3)
    hidden = torch.tanh(w)
    H = Hessian((hidden**2).sum(), [w])
    graph = weakref.ref(hidden)
    del hidden
    assert graph() is not None
    H.release()
    gc.collect()
    assert graph() is None


def test_the_users_graph_can_be_used_afterwards() -> None:
    problem = Regression()
    loss = problem.loss()
    H = Hessian(loss, problem.weights)
    H @ problem.flat_weights()
    H.release()
    loss.backward()
    assert all(w.grad is not None for w in problem.weights)


def test_shared_weights_count_once() -> None:
    w = leaf(2, 2)
    matrix = matrix_of(Hessian((w @ w).sum(), [w]), Vector([w.detach()]))
    exact = torch.autograd.functional.hessian(lambda a: (a @ a).sum(), w.detach()).reshape(4, 4)
    torch.testing.assert_close(matrix, exact)


def test_a_generator_of_parameters_is_read_once() -> None:
    layer = nn.Linear(2, 1, device=DEVICE, dtype=DTYPE)
    H = Hessian(layer(normal(4, 2)).square().mean(), layer.parameters())
    assert len(H.params) == 2


def test_an_operator_without_a_second_derivative_is_named() -> None:
    class Cubed(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x**3

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: object, g: Tensor) -> Tensor:
            return g

    w = leaf(2)
    with pytest.raises(SecondOrderError, match="second derivative"):
        Hessian(Cubed.apply(w).sum(), [w]) @ Vector([torch.ones_like(w)])
