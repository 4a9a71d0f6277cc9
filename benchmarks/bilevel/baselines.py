"""Methods of the literature, written plainly: each yields (W, φ) after every outer step, for ever.

All are tuned over the same grid of ``step``, for W and the linear system, and ``ratio``, by which it is divided for φ.
"""

from collections.abc import Iterator

import torch
from oracles import Oracles
from torch import Tensor

Iterates = Iterator[tuple[Tensor, Tensor]]


def soba(o: Oracles, step: float, ratio: float) -> Iterates:
    """SOBA (Dagréou et al., NeurIPS 2022): three directions at once, steps that fall with the root of time."""
    W, phi = o.task.start
    v = torch.zeros_like(W)
    t = 0
    while True:
        t += 1
        rate = step / t**0.5
        slope, Hv, cross = o.products(W, phi, v, o.inner_batches.draw()[1])
        outer_W, outer_phi = o.outer_gradient(W, phi, o.outer_batches.draw()[1])
        W, v, phi = W - rate * slope, v - rate * (Hv - outer_W), phi - rate / ratio * (outer_phi - cross)
        yield W, phi


class _Table:
    """The last direction of each batch and their mean, weighted by size: SAGA's correction."""

    def __init__(self, batches: int, rows: int, like: Tensor) -> None:
        self.rows, self.last, self.mean = (
            rows,
            torch.zeros(batches, len(like), dtype=like.dtype),
            torch.zeros_like(like),
        )

    def corrected(self, index: int, size: int, fresh: Tensor) -> Tensor:
        change = fresh - self.last[index]
        direction = change + self.mean
        self.mean = self.mean + size / self.rows * change
        self.last[index] = fresh
        return direction


def saba(o: Oracles, step: float, ratio: float) -> Iterates:
    """SABA (Dagréou et al., NeurIPS 2022): SOBA's directions, their variance reduced by tables; constant steps."""
    W, phi = o.task.start
    v = torch.zeros_like(W)
    inner, outer = o.inner_batches, o.outer_batches
    slopes, products, crosses = (_Table(inner.number, inner.rows, t) for t in (W, W, phi))
    outer_slopes, outer_directs = (_Table(outer.number, outer.rows, t) for t in (W, phi))
    while True:
        index, rows = inner.draw()
        slope, Hv, cross = o.products(W, phi, v, rows)
        slope, Hv = slopes.corrected(index, len(rows), slope), products.corrected(index, len(rows), Hv)
        cross = crosses.corrected(index, len(rows), cross)
        index, rows = outer.draw()
        outer_W, outer_phi = o.outer_gradient(W, phi, rows)
        outer_W = outer_slopes.corrected(index, len(rows), outer_W)
        outer_phi = outer_directs.corrected(index, len(rows), outer_phi)
        W, v, phi = W - step * slope, v - step * (Hv - outer_W), phi - step / ratio * (outer_phi - cross)
        yield W, phi


def _trained(o: Oracles, W: Tensor, phi: Tensor, step: float, number: int) -> Tensor:
    for _ in range(number):
        W = W - step * o.inner_gradient(W, phi, o.inner_batches.draw()[1])
    return W


def amigo(o: Oracles, step: float, ratio: float, inner_steps: int = 10) -> Iterates:
    """AmIGO (Arbel and Mairal, ICLR 2022): ten steps for W, ten for the linear system, from where it was; one for φ."""
    W, phi = o.task.start
    v = torch.zeros_like(W)
    while True:
        W = _trained(o, W, phi, step, inner_steps)
        outer_W, outer_phi = o.outer_gradient(W, phi, o.outer_batches.draw()[1])
        for _ in range(inner_steps):
            v = v - step * (o.products(W, phi, v, o.inner_batches.draw()[1], "hessian")[0] - outer_W)
        (cross,) = o.products(W, phi, v, o.inner_batches.draw()[1], "cross")
        phi = phi - step / ratio * (outer_phi - cross)
        yield W, phi


def stocbio(o: Oracles, step: float, ratio: float, inner_steps: int = 10) -> Iterates:
    """StocBiO (Ji et al., ICML 2021): ten steps for W, a Neumann series of ten batches from scratch, one step for φ."""
    W, phi = o.task.start
    while True:
        W = _trained(o, W, phi, step, inner_steps)
        outer_W, outer_phi = o.outer_gradient(W, phi, o.outer_batches.draw()[1])
        term, total = outer_W, outer_W
        for _ in range(inner_steps):
            term = term - step * o.products(W, phi, term, o.inner_batches.draw()[1], "hessian")[0]
            total = total + term
        (cross,) = o.products(W, phi, step * total, o.inner_batches.draw()[1], "cross")
        phi = phi - step / ratio * (outer_phi - cross)
        yield W, phi
