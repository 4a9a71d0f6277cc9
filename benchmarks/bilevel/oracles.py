"""What a stochastic method may ask for, and how often it did.

A gradient, a product with the Hessian and one with the mixed derivative count one each for a batch of 64 rows, as in
the literature; what they cost beyond that is seen in the seconds.
"""

from collections.abc import Iterator

import torch
from tasks import Loss, Task
from torch import Tensor

BATCH = 64


class Batches:
    """Fixed batches of neighbouring rows in an order that is drawn anew each epoch."""

    def __init__(self, rows: int, size: int, generator: torch.Generator) -> None:
        self.rows, self.size, self.generator = rows, size, generator
        self.number = -(-rows // size)
        self._order: Iterator[int] = iter(())

    def draw(self) -> tuple[int, Tensor]:
        """Return a batch's number and its rows."""
        try:
            index = next(self._order)
        except StopIteration:
            self._order = iter(torch.randperm(self.number, generator=self.generator).tolist())
            index = next(self._order)
        return index, torch.arange(index * self.size, min((index + 1) * self.size, self.rows))


def gradient(loss: Loss, W: Tensor, phi: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients with respect to W and φ."""
    W, phi = W.detach().requires_grad_(), phi.detach().requires_grad_()
    by_W, by_phi = torch.autograd.grad(loss(W, phi, rows), (W, phi), allow_unused=True, materialize_grads=True)
    return by_W, by_phi


class Oracles:
    """The derivatives of a task, counted."""

    def __init__(self, task: Task, seed: int, batch: int = BATCH) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.task, self.calls = task, 0.0
        self.inner_batches = Batches(task.inner_rows, min(batch, task.inner_rows), generator)
        self.outer_batches = Batches(task.outer_rows, min(BATCH, task.outer_rows), generator)

    def spend(self, rows: Tensor, number: int = 1) -> None:
        """Count derivatives of a batch, by its size."""
        self.calls += number * len(rows) / BATCH

    def inner_gradient(self, W: Tensor, phi: Tensor, rows: Tensor) -> Tensor:
        """∂_W of the inner loss."""
        self.spend(rows)
        W = W.detach().requires_grad_()
        return torch.autograd.grad(self.task.inner(W, phi, rows), W)[0]

    def outer_gradient(self, W: Tensor, phi: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """∂_W and ∂_φ of the outer loss."""
        self.spend(rows)
        return gradient(self.task.outer, W, phi, rows)

    def products(
        self, W: Tensor, phi: Tensor, v: Tensor, rows: Tensor, asked: str = "slope hessian cross"
    ) -> tuple[Tensor, ...]:
        """∂_W of the inner loss, and the products of its Hessian and mixed derivative with v, where asked for."""
        names = asked.split()
        self.spend(rows, len(names))
        W, phi = W.detach().requires_grad_(), phi.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.task.inner(W, phi, rows), W, create_graph=True)
        inputs = {name: t for name, t in (("hessian", W), ("cross", phi)) if name in names}
        found = torch.autograd.grad(slope, list(inputs.values()), v, allow_unused=True, materialize_grads=True)
        return tuple({"slope": slope.detach(), **dict(zip(inputs, found, strict=True))}[name] for name in names)
