"""Linear models with a penalty for each feature: ridge and logistic regression, solved by Newton's method."""

from typing import Any, Literal, cast, final

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn.experiments.hpo._inner import Inner, Tensors
from auxilearn.experiments.hpo._task import HpoTask

_linalg = cast("Any", torch.linalg)
_STEPS = 50
_HALVINGS = 20


@final
class LinearModel(Inner):
    r"""Minimise the mean loss of :math:`z = w^\top x + b` plus :math:`\tfrac12 \sum_j e^{\theta_j} w_j^2`.

    The loss of a row is :math:`\tfrac12 (z - y)^2`, or :math:`\log(1 + e^{z}) - y z`. The intercept is not penalised.

    Args:
        task: The rows, in float64.
        loss: Which.
        tolerance: Newton's method ends where no derivative exceeds it.

    Example:
        >>> x, y = torch.tensor([[1.0], [-1.0]]).double().repeat(5, 1), torch.tensor([2.0, -2.0]).double().repeat(5)
        >>> model = LinearModel(HpoTask(x, y, x, y, ("feature",)), "squared")
        >>> (weights,) = model.solve(torch.zeros(1).double(), torch.ones(1, 10).bool())
        >>> [round(w, 6) for w in weights[0].tolist()]  # 1 · 2 / (1 + 1)
        [1.0, 0.0]
    """

    def __init__(self, task: HpoTask, loss: Literal["squared", "logistic"], *, tolerance: float = 1e-10) -> None:
        super().__init__(len(task.y), task.kinds)
        self.loss, self.tolerance = loss, tolerance
        self._x, self._y = _with_ones(task.x), task.y
        self._test = (_with_ones(task.test_x), task.test_y)

    def losses(self, params: Tensors) -> Tensor:
        return self._losses(params[0] @ self._x.T)

    def penalty(self, params: Tensors, theta: Tensor) -> Tensor:
        return (theta.exp() * params[0][:, :-1].square()).sum() / 2

    def score(self, theta: Tensor) -> float:
        (weights,) = self.solve(theta, torch.ones(1, len(self._y), dtype=torch.bool))
        x, y = self._test
        z = x @ weights[0]
        if self.loss == "squared":
            return 100 * (1 - float((z - y).square().sum() / (y - y.mean()).square().sum()))
        return 100 * float(((z > 0) == (y > 0.5)).double().mean())

    def _losses(self, z: Tensor) -> Tensor:
        return (z - self._y).square() / 2 if self.loss == "squared" else functional.softplus(z) - self._y * z

    @torch.no_grad()
    def _train(self, theta: Tensor, kept: Tensor) -> Tensors:
        share = kept.to(self._x.dtype) / kept.sum(1, keepdim=True)
        penalties = functional.pad(theta.exp(), (0, 1))
        w = self._x.new_zeros(len(kept), self._x.shape[1])

        def objective(w: Tensor) -> Tensor:
            return (share * self._losses(w @ self._x.T)).sum(1) + (penalties * w.square()).sum(1) / 2

        now = objective(w)
        for _ in range(_STEPS):
            z = w @ self._x.T
            mean = z if self.loss == "squared" else z.sigmoid()
            gradient = (share * (mean - self._y)) @ self._x + penalties * w
            if float(gradient.abs().max()) < self.tolerance:
                break
            curvature = share if self.loss == "squared" else share * mean * (1 - mean)
            hessian = (self._x.T * curvature[:, None]) @ self._x + penalties.diag()
            step = cast("Tensor", _linalg.solve(hessian, gradient))
            # Each model halves its own step until its objective falls.
            size = torch.ones(len(w), 1, dtype=w.dtype)
            for _ in range(_HALVINGS):
                rises = ~(objective(w - size * step) <= now)
                if not bool(rises.any()):
                    break
                size[rises] /= 2
            moved = objective(w - size * step) <= now
            w = torch.where(moved[:, None], w - size * step, w)
            now = objective(w)
            if not bool(moved.any()):
                break
        return (w,)


def _with_ones(x: Tensor) -> Tensor:
    return functional.pad(x, (0, 1), value=1.0)
