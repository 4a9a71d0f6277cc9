"""The outer optimizer against its formula, written out."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from auxilearn.errors import InputError
from auxilearn.training._outer_adam import OuterAdam
from support import close, normal


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 2, 5)])
def test_steps_are_those_of_the_formula(shape: tuple[int, ...]) -> None:
    theta = nn.Parameter(normal(*shape))
    optimizer = OuterAdam([theta], lr=0.3, betas=(0.8, 0.95))
    expected, m, v = theta.detach().clone(), torch.zeros_like(theta), [0.0] * 3
    for t in range(1, 6):
        g = normal(*shape, seed=t)
        m = 0.8 * m + 0.2 * g
        for row in range(3):
            v[row] = 0.95 * v[row] + 0.05 * float(g[row].square().mean())
            scale = (v[row] / (1 - 0.95**t)) ** 0.5
            expected[row] -= 0.3 * (m[row] / (1 - 0.8**t)) / scale
        theta.grad = g
        optimizer.step()
        assert close(theta.detach(), expected, 1e-12)


def test_a_row_does_not_hear_of_another() -> None:
    found = []
    for other in (1.0, 1e6):
        theta = nn.Parameter(torch.zeros(2, 3))
        optimizer = OuterAdam([theta])
        for t in range(3):
            theta.grad = normal(2, 3, seed=t, dtype=torch.float32)
            theta.grad[1] *= other
            optimizer.step()
        found.append(theta.detach()[0])
    assert torch.equal(*found)


def test_a_row_without_a_hypergradient_stays() -> None:
    theta = nn.Parameter(torch.ones(3, 2))
    optimizer = OuterAdam([theta], lr=0.2)
    # The square of the third is below what single precision can say.
    theta.grad = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1e-30, 1e-30]])
    optimizer.step()
    assert theta[0].tolist() == [1.0, 1.0]
    assert torch.allclose(theta[1], torch.tensor(0.8))
    assert theta[2].tolist() == [1.0, 1.0]


def test_parameters_without_a_gradient_are_left_alone_and_a_closure_is_called() -> None:
    theta = nn.Parameter(torch.ones(1, 2))
    assert OuterAdam([theta]).step(lambda: 3.0) == 3.0
    assert theta.tolist() == [[1.0, 1.0]]


def test_the_state_is_saved() -> None:
    first, second = (nn.Parameter(torch.zeros(1, 2)) for _ in range(2))
    one, other = OuterAdam([first]), OuterAdam([second])
    first.grad = torch.tensor([[1.0, 2.0]])
    one.step()
    other.load_state_dict(deepcopy(one.state_dict()))
    with torch.no_grad():
        second.copy_(first)
    first.grad, second.grad = torch.ones(1, 2), torch.ones(1, 2)
    one.step()
    other.step()
    assert torch.equal(first, second)


def test_the_learning_rate_must_be_positive() -> None:
    with pytest.raises(InputError, match="`lr` must be"):
        OuterAdam([nn.Parameter(torch.ones(1, 1))], lr=0.0)
