"""One step: precision, accumulation, clipping and schedule."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auxilearn.errors import InputError
from auxilearn.training._descent import Descent
from support import DEVICE, normal
from training.tiny import sgd, training


def weight() -> nn.Parameter:
    return nn.Parameter(normal(4, seed=1))


def descent(w: nn.Parameter, **changes: Any) -> Descent:
    return Descent([w], training(**{"optimizer": sgd, **changes}), DEVICE)


def square(w: Tensor, shift: float = 0.0) -> Tensor:
    return (w - shift).square().sum()


def test_a_step_is_the_optimizers() -> None:
    w = weight()
    expected = w.detach() - 0.05 * 2 * (w.detach() - 0.5)  # the mean of (w - 0)² and (w - 1)²
    step = descent(w)
    step.step([lambda: square(w), lambda: square(w, 1.0)])
    assert torch.allclose(w.detach(), expected)
    assert step.learning_rate == 0.05


def test_the_gradient_is_clipped() -> None:
    w = weight()
    for clip in (None, lambda norm: nn.utils.clip_grad_norm_([w], norm)):
        start = w.detach().clone()
        step = Descent([w], training(optimizer=sgd, max_grad_norm=0.1), DEVICE, clip=clip)
        step.step([lambda: 100 * square(w)])
        assert torch.allclose((start - w.detach()).norm(), normal(1).new_tensor(0.05 * 0.1))


def test_the_schedule_moves_after_every_step() -> None:
    w = weight()
    step = descent(w, scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5))
    rates = []
    for _ in range(3):
        rates.append(step.learning_rate)
        step.step([lambda: square(w)])
    assert rates == [0.05, 0.025, 0.0125]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_forward_passes_run_in_the_precision_and_weights_keep_theirs(precision: Any) -> None:
    model = nn.Linear(4, 2).to(DEVICE)
    step = Descent(list(model.parameters()), training(optimizer=sgd, precision=precision), DEVICE)
    with step.autocast():
        out = model(torch.ones(3, 4, device=DEVICE))
    assert out.dtype == getattr(torch, precision)
    assert model.weight.dtype == torch.float32
    start = model.weight.detach().clone()
    step.step([lambda: out.float().square().mean()])
    assert not torch.equal(start, model.weight)


def test_an_overflow_in_half_precision_skips_step_and_schedule() -> None:
    w = nn.Parameter(torch.ones(2, device=DEVICE))
    step = descent(w, precision="float16", scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5))
    step.step([lambda: 1e36 * w.sum()])  # times the scaler's 65536 it is infinite
    assert w.tolist() == [1.0, 1.0]
    assert step.learning_rate == 0.05
    step.step([lambda: 1e-3 * w.sum()])
    assert w[0] < 1
    assert step.learning_rate == 0.025


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    w = nn.Parameter(torch.zeros(2, device=DEVICE))
    step = descent(w, optimizer=lambda p: torch.optim.Adam(p, lr=0.1))
    with pytest.raises(InputError, match=r"must be finite\. .* is not\. Look for a square root"):
        step.step([lambda: w.square().sum().sqrt()])  # its slope at 0 is 0 / 0
    assert w.tolist() == [0.0, 0.0]
    assert w.grad is None
    assert not step.state_dict()["optimizer"]["state"]


def test_a_loss_without_a_graph_moves_nothing() -> None:
    w = weight()
    before = w.detach().clone()
    with pytest.raises(InputError, match=r"must depend on the weights\. They have no graph\. Remove `\.detach"):
        descent(w).step([lambda: square(w).detach()])
    assert torch.equal(w, before)


def test_it_goes_on_where_it_stood() -> None:
    settings = {
        "optimizer": lambda p: torch.optim.Adam(p, lr=0.1),
        "scheduler": lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 4]),
        "precision": "float16",
    }
    first, second = weight(), weight()
    one, other = descent(first, **settings), descent(second, **settings)
    for _ in range(3):
        one.step([lambda: square(first)])
    other.load_state_dict(deepcopy(one.state_dict()))
    second.data.copy_(first.data)
    for _ in range(3):
        one.step([lambda: square(first)])
        other.step([lambda: square(second)])
    assert torch.equal(first, second)
    assert one.learning_rate == other.learning_rate
    assert one.settings == other.settings


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"optimizer": lambda p: None}, "It built a `NoneType`"),
        ({"optimizer": lambda p: torch.optim.LBFGS(p)}, "It built a `LBFGS`"),
        ({"optimizer": lambda p: torch.optim.SparseAdam(p)}, "It built a `SparseAdam`"),
        ({"optimizer": lambda p: torch.optim.SGD([weight()], lr=0.1)}, "It holds none of them"),
        ({"scheduler": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o)}, "It built a `ReduceLROnPlateau`"),
        ({"scheduler": lambda o: 3}, "It built a `int`"),
    ],
)
def test_optimizers_and_schedules_that_cannot_be_stepped_are_refused(changes: Any, finding: str) -> None:
    with pytest.raises(InputError, match=finding):
        descent(weight(), **changes)
