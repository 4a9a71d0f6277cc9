"""A small problem with three classes, and how to tell whether two runs are one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from auxilearn.training import CrossFit, Fit, Learned, Problem, Training
from auxilearn.training._folds import folds_of
from support import DEVICE, normal

ROWS, LABELS, CLASSES = 60, 24, 3


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.05)


def adam(params: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr=0.01)


def net(*middle: nn.Module, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """Return a network with four inputs, and five outputs: three classes, and one for each auxiliary loss."""
    torch.manual_seed(seed)
    parts = middle or (nn.Tanh(),)
    return nn.Sequential(nn.Linear(4, 6), *parts, nn.Linear(6, 5)).to(DEVICE, dtype)


def data(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs, classes, and the targets of a helpful and a useless auxiliary loss."""
    x = normal(ROWS, 4, seed=1)
    scores = x @ normal(4, CLASSES, seed=2)
    targets = torch.stack([scores[:, 0] - scores[:, 1], 30 * normal(ROWS, seed=3)], 1)
    return x.to(dtype), scores.argmax(1), targets.to(dtype)


def blank() -> nn.Module:
    """Return a network whose outputs are all zero at first: a target and its negative are equally far away."""
    model = net()
    with torch.no_grad():
        for p in model[-1].parameters():  # type: ignore[index]
            p.zero_()
    return model


def data_of_fold(fold: int, *, flipped: bool, folds: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Return the data; if asked, with negated auxiliary targets of the rows in one of the unstratified folds."""
    x, y, targets = data()
    own = folds_of(None, LABELS, folds, seed=0) == fold
    assert own.any()
    if flipped:
        targets[:LABELS][own] *= -1
    return x, y, targets


def losses(model: nn.Module, batch: Any) -> Tensor:
    """Return the class's loss, and two squared errors: (B, 3)."""
    x, y, targets = batch
    z = model(x)
    return torch.cat([F.cross_entropy(z[:, :3], y, reduction="none")[:, None], (z[:, 3:] - targets).square()], 1)


def masked(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """Return the same, where the second auxiliary loss exists for every other class only."""
    found = losses(model, batch)
    present = torch.ones_like(found, dtype=torch.bool)
    present[:, 2] = batch[1] != 1
    return found, present


def logits(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    return model(batch[0])[:, :3], batch[1]


def problem(model: nn.Module | Callable[[], nn.Module] | None = None, **changes: Any) -> Problem:
    found = {"losses": losses, "data": data(), "labelled": torch.arange(LABELS), "logits": logits, **changes}
    return Problem(net() if model is None else model, **found)


def training(**changes: Any) -> Training:
    return Training(**{"steps": 8, "batch_size": 16, "optimizer": adam, **changes})


def learned(**changes: Any) -> Learned:
    return Learned(**{"outer": CrossFit(), "warmup": 2, "every": 2, **changes})


def weights_of(module: nn.Module) -> list[Tensor]:
    return [t.detach().clone() for t in module.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def same_fit(first: Fit, second: Fit) -> bool:
    """Say whether two outcomes are equal to the last bit."""
    assert same(weights_of(first.model), weights_of(second.model))
    assert (first.combiner is None) == (second.combiner is None)
    if first.combiner is not None and second.combiner is not None:
        assert same(weights_of(first.combiner), weights_of(second.combiner))
    assert first.weights == second.weights
    assert first.verdict == second.verdict
    assert first.usefulness == second.usefulness
    assert first.notes == second.notes
    assert first.history == second.history
    return True
