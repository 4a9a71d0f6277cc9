"""The original package's series, and other people's solvers, on the same system.

Every package gets the products of ``state.operator``. torchopt takes them as they are. betty takes a loss, and products
from its graph: it gets one whose derivatives are these products, by ``torch.autograd.Function``. hypergrad takes
functions and computes products with the exact Hessian by forward over reverse mode, each with a forward pass of its
own; so that it solves the same system, its function for products is replaced, which makes it cheaper than it is. Their
Neumann series get the step that is best in hindsight for each length, as the original's does.

The original's settings are three terms, and a step of 1e-4 or the learning rate of the weights.
"""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from budgets import COARSE, LADDER
from krylov import Krylov
from methods import Method, Solve
from state import State
from torch import Tensor

from auxilearn import Vector
from auxilearn.curvature import LossCurvature

SHORTER = tuple(n for n in COARSE if n <= 200)
SERIES = (3, 10, 30, 100)  # of packages that sum the very series of the original
TOLERANCE = 1e-10
Make = Callable[[State, int], Solve]
_KRYLOV: dict[int, Krylov] = {}  # of the last state


def best_alpha(state: State, terms: int) -> float:
    """Return the step of the series that is best in hindsight."""
    if id(state) not in _KRYLOV:
        _KRYLOV.clear()
        _KRYLOV[id(state)] = Krylov(state, max(state.problem.budgets))
    return _KRYLOV[id(state)].best_alpha(terms)


def series(state: State, alpha: float, terms: int) -> Vector:
    """Σ_{j ≤ terms} (I − αH)ʲ v, the arithmetic of auxilearn 1.0.0, which leaves out the factor α."""
    total = term = state.v
    for _ in range(terms):
        term = term - alpha * (state.operator @ term)
        total = total + term
    return total


def _original(state: State, n: int) -> Solve:
    return lambda: series(state, 1e-4, n)


def _original_lr(state: State, n: int) -> Solve:
    return lambda: series(state, float(state.optimizer.param_groups[0]["lr"]), n)


def _original_best(state: State, n: int) -> Solve:
    alpha = best_alpha(state, n)
    return lambda: series(state, alpha, n)


class Product(torch.autograd.Function):
    """The linear map u ↦ H u, its own derivative and adjoint, for packages that differentiate it."""

    @staticmethod
    def forward(H: LossCurvature, *u: Tensor) -> tuple[Tensor, ...]:
        """Multiply."""
        return (H @ Vector(u)).tensors

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the operator."""
        ctx.H = inputs[0]

    @staticmethod
    def backward(ctx: Any, *u: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply; the operator is symmetric."""
        return None, *Product.apply(ctx.H, *u)


class Slope(torch.autograd.Function):
    """∂_W L as a function of W at this state, whose derivative is the operator."""

    @staticmethod
    def forward(ctx: Any, H: LossCurvature, *W: Tensor) -> tuple[Tensor, ...]:
        """Return the gradient."""
        ctx.H = H
        return H.gradient().tensors

    @staticmethod
    def backward(ctx: Any, *u: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply."""
        return None, *(ctx.H @ Vector(u)).tensors


class Mixed(torch.autograd.Function):
    """∂_W L as a function of φ at this state, less its value."""

    @staticmethod
    def forward(ctx: Any, H: LossCurvature, phi: Tensor) -> tuple[Tensor, ...]:
        """Return zeros."""
        ctx.H, ctx.phi = H, phi
        return tuple(torch.zeros_like(p) for p in H.params)

    @staticmethod
    def backward(ctx: Any, *u: Tensor) -> tuple[Tensor | None, ...]:
        """Take the mixed product."""
        return None, ctx.H.cross(Vector(u), [ctx.phi])[0]


class Loss(torch.autograd.Function):
    """A scalar whose gradient in W is ``Slope`` + ``Mixed``."""

    @staticmethod
    def forward(ctx: Any, H: LossCurvature, phi: Tensor, *W: Tensor) -> Tensor:
        """Return zero: only derivatives are asked for."""
        ctx.H, ctx.phi = H, phi
        ctx.save_for_backward(*W)
        return phi.new_zeros(())

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient with its graph."""
        slope, mixed = Slope.apply(ctx.H, *ctx.saved_tensors), Mixed.apply(ctx.H, ctx.phi)
        return None, None, *(a + b for a, b in zip(slope, mixed, strict=True))


def _betty(function: str, *, neumann: bool) -> Make:
    def make(state: State, n: int) -> Solve:
        from betty import hypergradient

        solve, params = getattr(hypergradient, function), state.params
        alpha = best_alpha(state, n) if neumann else 1.0  # its conjugate gradients are right with 1 only
        inner = SimpleNamespace(
            paths=[],
            cur_batch=None,
            training_step_exec=lambda batch: Loss.apply(state.operator, state.phi, *params),
            trainable_parameters=lambda: params,
            parameters=lambda: params,
            config=SimpleNamespace(cg_iterations=n, cg_alpha=alpha, neumann_iterations=n, neumann_alpha=alpha),
        )
        outer = SimpleNamespace(trainable_parameters=lambda: [state.phi])
        return lambda: solve(state.v.tensors, inner, outer)[0]

    return make


def _hypergrad(function: str, *, neumann: bool) -> Make:
    def make(state: State, n: int) -> Solve:
        from hypergrad import approx_hypergrad

        solve: Any = getattr(approx_hypergrad, function).__wrapped__  # without the mixed product
        rate = best_alpha(state, n) if neumann else 1.0  # its conjugate gradients are right with 1 only

        def outer(W: tuple[Tensor, ...], phi: tuple[Tensor, ...]) -> Tensor:  # linear, with the gradient v
            return sum(((w * v).sum() for w, v in zip(W, state.v, strict=True)), 0 * phi[0].sum())

        def product(f: object, W: object, u: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (state.operator @ Vector(u)).tensors

        def run() -> Vector:
            W = tuple(p.detach() for p in state.params)
            with warnings.catch_warnings(), patch.object(approx_hypergrad, "hvp", product):
                warnings.simplefilter("ignore", FutureWarning)  # functorch's old names
                return Vector(solve(None, outer, W, (state.phi.detach(),), n, rate)[0])

        return run

    return make


def _torchopt(function: str, *, neumann: bool = False) -> Make:
    def make(state: State, n: int) -> Solve:
        from torchopt import linear_solve

        settings = {"ns": True, "alpha": best_alpha(state, n)} if neumann else {"rtol": TOLERANCE}
        solve = getattr(linear_solve, function)(maxiter=n, **settings)

        def run() -> Vector:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # functorch's old names
                return Vector(solve(lambda u: Product.apply(state.operator, *u), state.v.tensors))

        return run

    return make


_PACKAGES = {"torchopt": "torchopt", "hypergrad": "hypergrad", "betty": "betty-ml"}  # module, and name on PyPI
_PEERS = {
    "torchopt": [
        Method("torchopt, solve_cg", "peer", _torchopt("solve_cg"), budget="iterations"),
        Method("torchopt, solve_normal_cg", "peer", _torchopt("solve_normal_cg"), SHORTER, "iterations"),
        Method(
            "torchopt, solve_inv, best α", "peer", _torchopt("solve_inv", neumann=True), SERIES, "terms", bisects=False
        ),
    ],
    "hypergrad": [
        Method("hypergrad, CG", "peer", _hypergrad("conjugate_gradient", neumann=False), SHORTER, "iterations"),
        Method(
            "hypergrad, Neumann, best α", "peer", _hypergrad("neumann", neumann=True), SERIES, "terms", bisects=False
        ),
    ],
    "betty": [
        Method("betty, cg", "peer", _betty("cg", neumann=False), SHORTER, "iterations"),
        Method("betty, neumann, best α", "peer", _betty("neumann", neumann=True), SERIES, "terms", bisects=False),
    ],
}

ORIGINAL = [
    Method("original, α = 1e-4", "original", _original, (3,), "terms"),
    Method("original, α = lr", "original", _original_lr, (3,), "terms"),
    Method("original, best α", "original", _original_best, LADDER, "terms"),
]


def peers() -> list[Method]:
    """Return the solvers of the packages that are installed, and say how to add the others."""
    found = []
    for module, name in _PACKAGES.items():
        if find_spec(module) is None:
            print(f"{name} is not installed, and its rows are left out: pip install {name}")
        else:
            found += _PEERS[module]
    return found
