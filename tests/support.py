"""What every test file shares: the device and data type under test, and small seeded problems."""

import math
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import final

import torch
from torch import Tensor
from torch import distributed as dist

from auxilearn import Vector
from auxilearn.curvature import CurvatureOperator

DEVICE = torch.device(os.environ.get("AUXILEARN_TEST_DEVICE", "cpu"))
DTYPE = getattr(torch, os.environ.get("AUXILEARN_TEST_DTYPE", "float64"))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = DTYPE) -> Tensor:
    """Return standard normal numbers, the same on every device."""
    return torch.randn(shape, generator=generator(seed), dtype=dtype).to(DEVICE)


def close(found: Tensor, exact: Tensor, tolerance: float = 1e-8) -> bool:
    """Say whether the relative error, in the Euclidean norm, is small."""
    return bool((found - exact).norm() <= tolerance * exact.norm())


def spd(eigenvalues: Tensor, *, seed: int = 0) -> Tensor:
    """Return a symmetric matrix of the given spectrum with random eigenvectors."""
    n = len(eigenvalues)
    basis = torch.linalg.qr(normal(n, n, seed=seed, dtype=eigenvalues.dtype)).Q
    return (basis * eigenvalues.to(DEVICE)) @ basis.T


@final
class Matrix(CurvatureOperator):
    """The operator of a symmetric matrix, on vectors of any blocks with as many entries."""

    def __init__(self, matrix: Tensor, *, damping: float = 0.0) -> None:
        super().__init__(damping=damping)
        self.matrix = matrix

    def _multiply(self, v: Vector, /) -> Vector:
        return v.from_flat(self.matrix @ v.flat())


@final
class System:
    """A system H x = v of known spectrum on four blocks, in float64, with its solution from torch.linalg."""

    def __init__(self, eigenvalues: Tensor, *, seed: int = 0) -> None:
        shapes = [(3, 4), (), (7,), (len(eigenvalues) - 20,)]
        like = Vector(torch.zeros(s, dtype=torch.float64, device=DEVICE) for s in shapes)
        self.matrix = spd(eigenvalues, seed=seed)
        self.v = like.randn_like(generator(seed + 1000))

    def operator(self) -> Matrix:
        """A new operator, whose count of products starts at 0."""
        return Matrix(self.matrix)

    @property
    def exact(self) -> Tensor:
        return torch.linalg.solve(self.matrix, self.v.flat())

    def error(self, x: Vector) -> float:
        return float((x.flat() - self.exact).norm() / self.exact.norm())

    def residual(self, x: Vector) -> float:
        return float((self.v.flat() - self.matrix @ x.flat()).norm() / self.v.norm())


def geometric(condition: float, *, size: int = 24) -> Tensor:
    """Return eigenvalues from 1 to the condition number, evenly spaced on a logarithmic scale."""
    return torch.logspace(0, math.log10(condition), size, dtype=torch.float64)


@contextmanager
def process_group(store: Path, *, rank: int = 0, size: int = 1) -> Generator[None, None, None]:
    """Meet the other processes on the CPU, through a file, for a port may be taken."""
    shared = dist.FileStore(str(store), size)
    dist.init_process_group("gloo", store=shared, rank=rank, world_size=size, timeout=timedelta(seconds=60))
    try:
        yield
    finally:
        dist.destroy_process_group()


@final
class Regression:
    r"""A tanh network with three blocks of weights, whose two squared errors are weighted by exp(φ), in float64.

    The truth about its curvature comes from `torch.autograd.functional`, which builds the matrices row by row.
    """

    def __init__(self) -> None:
        self.inputs = normal(20, 2, dtype=torch.float64, seed=100)
        self.targets = normal(20, 2, dtype=torch.float64, seed=101)
        shapes = [(2, 3), (3,), (3, 2)]
        self.weights = [normal(*s, dtype=torch.float64, seed=i).requires_grad_() for i, s in enumerate(shapes)]
        self.phi = normal(2, dtype=torch.float64, seed=102).requires_grad_()

    def outputs(self, weights: Sequence[Tensor] | None = None) -> Tensor:
        A, b, C = self.weights if weights is None else weights
        return torch.tanh(self.inputs @ A + b) @ C

    def loss_of_outputs(self, outputs: Tensor, phi: Tensor | None = None) -> Tensor:
        return ((outputs - self.targets).square() @ (self.phi if phi is None else phi).exp()).mean()

    def loss(self) -> Tensor:
        return self.loss_of_outputs(self.outputs())

    def flat_weights(self) -> Vector:
        return Vector(w.detach() for w in self.weights)

    def hessian(self) -> Tensor:
        """Return ∂²_W L, shape (n, n)."""
        return self._joint()[:-2, :-2]

    def mixed(self) -> Tensor:
        """Return ∂_φ ∂_W L, shape (n, 2)."""
        return self._joint()[:-2, -2:]

    def gauss_newton(self) -> Tensor:
        """Return Jᵀ ∂²_z L J, shape (n, n)."""
        like = self.flat_weights()
        J = torch.autograd.functional.jacobian(lambda w: self.outputs(like.from_flat(w).tensors).flatten(), like.flat())
        outputs = self.outputs().detach()
        inner = torch.autograd.functional.hessian(
            lambda z: self.loss_of_outputs(z.reshape(outputs.shape), self.phi.detach()), outputs.flatten()
        )
        return J.T @ inner @ J

    def _joint(self) -> Tensor:
        like = Vector([*self.flat_weights(), self.phi.detach()])

        def loss(flat: Tensor) -> Tensor:
            *weights, phi = like.from_flat(flat)
            return self.loss_of_outputs(self.outputs(weights), phi)

        return torch.autograd.functional.hessian(loss, like.flat())


def matrix_of(operator: CurvatureOperator, like: Vector) -> Tensor:
    """Return the matrix of an operator, column by column."""
    n = like.flat().numel()
    eye = torch.eye(n, dtype=like.tensors[0].dtype, device=like.tensors[0].device)
    return torch.stack([(operator @ like.from_flat(e)).flat() for e in eye], dim=1)
