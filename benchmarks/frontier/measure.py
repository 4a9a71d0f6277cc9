"""What a solve costs, and how far its hypergradient is from the truth."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from budgets import THRESHOLD
from methods import Method
from state import State
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

COUNTED = 5
"""Budgets up to this run once under the counter; beyond, a product more adds what it added there."""
SHORT, REPEATS = 0.2, 3
"""Solves that take fewer seconds are timed so often, and their median is taken."""


def _cholesky(shape: tuple[int, ...], **_: object) -> int:
    return math.prod(shape) * shape[-1] // 3


def _triangular(shape: tuple[int, ...], right: tuple[int, ...], **_: object) -> int:
    return math.prod(shape) * right[-1]


def _eigen(shape: tuple[int, ...], *_: object, **__: object) -> int:
    return 9 * math.prod(shape) * shape[-1]  # about, with vectors (Golub and Van Loan, Sec. 8.3)


FACTORISATIONS = {
    torch.ops.aten.linalg_cholesky_ex: _cholesky,
    torch.ops.aten.linalg_solve_triangular: _triangular,
    torch.ops.aten._linalg_eigh: _eigen,
}
"""What torch's counter leaves out."""


def flops(function: Callable[[], object]) -> int:
    """Count the operations of matrix products, convolutions and factorisations; element-wise ones are not counted."""
    with FlopCounterMode(display=False, custom_mapping=FACTORISATIONS) as counter:
        function()
    return counter.get_total_flops()


@dataclass(frozen=True)
class Units:
    """Floating-point operations of one train gradient, one product and one mixed product on the rows of a state."""

    gradient: int
    product: int
    mixed: int

    @staticmethod
    def of(state: State) -> "Units":
        """Count them."""
        H, v = state.operator, state.v
        return Units(flops(state.train_gradient), flops(lambda: H @ v), flops(lambda: state.hypergradient(v)))


def climbed(state: State, method: Method, units: Units) -> list[dict[str, float]]:
    """Measure a method at every budget of its ladder; end early once two in a row give the truth to eight digits."""
    points: list[dict[str, float]] = []
    for rung in (n for n in method.ladder if n in state.problem.budgets):
        points.append(_measured(state, method, rung, units, points))
        if len(points) > 1 and all(p["error"] < 1e-8 for p in points[-2:]):
            break
    return points


def reached(points: list[dict], threshold: float = THRESHOLD) -> int | None:
    """Return the index of the point from which on, at every larger budget, the cosine is at least the threshold."""
    found = None
    for index in reversed(range(len(points))):
        if not points[index]["cosine"] >= threshold:  # NaN is not
            break
        found = index
    return found


def bisected(state: State, method: Method, units: Units, points: list[dict]) -> list[dict]:
    """Add the points between the last budget of the ladder that misses the threshold and the first that reaches it."""
    while (index := reached(points)) and points[index]["budget"] - points[index - 1]["budget"] > 1:
        rung = (points[index]["budget"] + points[index - 1]["budget"]) // 2
        point = {**_measured(state, method, rung, units, points[:index]), "between": True}
        points = [*points[:index], point, *points[index:]]
    return points


def _continued(before: list[dict[str, float]], products: int, units: Units) -> float:
    # In gradients. What a product adds, with whatever a method computes beside it, is known once there were two
    # budgets: exactly so for all methods but Nyström's, whose small matrices grow (by less than a thousandth in all).
    first, last = before[0], before[-1]
    more = last["products"] - first["products"]
    slope = (last["gradients"] - first["gradients"]) / more if more else units.product / units.gradient
    return last["gradients"] + (products - last["products"]) * slope


def _measured(state: State, method: Method, rung: int, units: Units, before: list[dict[str, float]]) -> dict:
    solve = method.make(state, rung)

    def whole() -> Tensor:
        found = solve()
        return found if isinstance(found, Tensor) else state.hypergradient(found)

    repeats = 1 if state.problem.quick else REPEATS
    seconds = []
    while not seconds or (len(seconds) < repeats and seconds[0] < SHORT):
        products, start = state.operator.products, time.perf_counter()
        found = whole()
        seconds.append(time.perf_counter() - start)
        products = state.operator.products - products
    # What is counted includes whatever else a method computes, such as a preconditioner.
    counted = rung <= COUNTED or not before
    gradients = flops(whole) / units.gradient if counted else _continued(before, products, units)
    exact = state.truth[0]
    return {
        "budget": rung,
        "products": products,
        "gradients": gradients,
        "seconds": statistics.median(seconds),
        "error": float((found - exact).norm() / exact.norm()),
        "cosine": float(torch.cosine_similarity(found, exact, 0)),
    }
