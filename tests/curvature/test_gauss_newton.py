"""The generalised Gauss-Newton matrix: what makes it positive, and where it has nothing to say."""

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from auxilearn import Vector
from auxilearn.curvature import GaussNewton, Hessian
from auxilearn.errors import InputError
from support import DEVICE, Regression, close, matrix_of, normal


def classifier(seed: int) -> tuple[list[Tensor], Tensor, Tensor]:
    inputs = normal(10, 3, dtype=torch.float64, seed=seed)
    labels = torch.arange(10, device=DEVICE) % 4
    weights = [normal(*s, dtype=torch.float64, seed=seed + 1).requires_grad_() for s in [(3, 5), (5, 4)]]
    outputs = torch.tanh(inputs @ weights[0]) @ weights[1]
    return weights, outputs, nn.functional.cross_entropy(outputs, labels)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_positive_semi_definite_where_the_hessian_is_not(seed: int) -> None:
    weights, outputs, loss = classifier(seed)
    like = Vector(w.detach() for w in weights)
    lowest = torch.linalg.eigvalsh(matrix_of(GaussNewton(loss, outputs, weights), like)).min()
    assert float(lowest) > -1e-12
    assert float(torch.linalg.eigvalsh(matrix_of(Hessian(loss, weights), like)).min()) < -1e-3


def test_a_network_linear_in_its_weights_has_the_exact_hessian() -> None:
    w = normal(3, 2, dtype=torch.float64).requires_grad_()
    outputs = normal(6, 3, dtype=torch.float64, seed=1) @ w
    loss = outputs.exp().sum()
    like = Vector([w.detach()])
    exact = matrix_of(Hessian(loss, [w]), like)
    assert close(matrix_of(GaussNewton(loss, outputs, [w]), like), exact, 1e-12)


def test_a_loss_linear_in_the_outputs_has_no_curvature() -> None:
    problem = Regression()
    outputs = problem.outputs()
    G = GaussNewton(outputs.sum(), outputs, problem.weights)
    assert float((G @ problem.flat_weights()).norm()) == 0.0


def test_linearity_counts_even_if_its_coefficients_are_auxiliary_parameters() -> None:
    problem = Regression()
    outputs = problem.outputs()
    G = GaussNewton((outputs * problem.phi).sum(), outputs, problem.weights)
    v = problem.flat_weights()
    assert float((G @ v).norm()) == 0.0
    (found,) = G.cross(v, [problem.phi])
    assert found is not None
    assert float(found.norm()) > 0.0


def test_weights_that_reach_the_loss_beside_the_outputs_have_no_curvature_of_their_own() -> None:
    problem = Regression()
    outputs = problem.outputs()
    beside = normal(2, dtype=torch.float64).requires_grad_()
    loss = problem.loss_of_outputs(outputs) + (beside**4).sum()
    G = GaussNewton(loss, outputs, [*problem.weights, beside])
    found = matrix_of(G, Vector(p.detach() for p in G.params))
    assert close(found[:15, :15], problem.gauss_newton(), 1e-12)
    assert float(found[15:].norm()) == 0.0


def test_outputs_that_no_weight_reaches_give_zero() -> None:
    w, phi = (normal(2, dtype=torch.float64, seed=s).requires_grad_() for s in (0, 1))
    outputs = phi * 2
    G = GaussNewton(outputs.square().sum() + w.square().sum(), outputs, [w])
    assert float((G @ Vector([w.detach()])).norm()) == 0.0


def test_outputs_without_a_graph_are_refused() -> None:
    problem = Regression()
    with pytest.raises(InputError, match="`outputs` must be a tensor with a graph"):
        GaussNewton(problem.loss(), problem.outputs().detach(), problem.weights)


def test_outputs_of_another_pass_are_refused() -> None:
    problem = Regression()
    with pytest.raises(InputError, match="It does not depend on them"):
        GaussNewton(problem.loss(), problem.outputs(), problem.weights)


def test_release_frees_the_graph() -> None:
    w = normal(3, dtype=torch.float64).requires_grad_()
    hidden = torch.tanh(w)
    outputs = hidden.square()
    G = GaussNewton(outputs.square().sum(), outputs, [w])
    graph = weakref.ref(hidden)
    del hidden, outputs
    assert graph() is not None
    G.release()
    gc.collect()
    assert graph() is None
