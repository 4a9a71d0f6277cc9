"""How many passes over the weights a solver's iteration takes besides the product, and how much memory."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from auxilearn import Vector
from auxilearn.curvature import CurvatureOperator
from auxilearn.solvers import ConjugateGradient, LinearSolver, Neumann
from support import DEVICE, normal


class Passes(TorchDispatchMode):
    """Counts the operators that read the weights, and the vectors that they make."""

    def __init__(self) -> None:
        super().__init__()
        self.passes, self.made = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = str(func)
        if "_foreach" in name or name.startswith("aten.dot"):
            self.passes += 1
            self.made += isinstance(found, (list, tuple)) and bool(found) and isinstance(found[0], Tensor)
        return found


class Diagonal(CurvatureOperator):
    """A product that no counter sees, into memory of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.diagonal = torch.linspace(1.0, 9.0, 30, dtype=torch.float64, device=DEVICE)

    def _multiply(self, v: Vector, /) -> Vector:
        with torch.utils._python_dispatch._disable_current_modes():
            return Vector([self.diagonal * v.tensors[0]])


SOLVERS: dict[str, tuple[Callable[[int], LinearSolver], int, int]] = {  # passes and new vectors an iteration
    "neumann, fixed": (lambda n: Neumann(terms=n, alpha=0.1), 2, 0),
    "neumann, auto": (lambda n: Neumann(terms=n), 4, 0),
    "conjugate gradients": (lambda n: ConjugateGradient(max_steps=n, tolerance=0.0), 6, 1),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_an_iteration_takes_so_many_passes_and_makes_so_many_vectors(name: str) -> None:
    make, passes, made = SOLVERS[name]
    v = Vector([normal(30, dtype=torch.float64)])
    counts = []
    for steps in (4, 8):
        with Passes() as counted:
            make(steps).solve(Diagonal(), v)
        counts.append((counted.passes, counted.made))
    assert counts[1][0] - counts[0][0] == 4 * passes
    assert counts[1][1] - counts[0][1] == 4 * made


def test_a_step_of_the_power_iteration_takes_three_passes() -> None:
    v = Vector([normal(30, dtype=torch.float64)])
    counts = []
    for steps in (4, 8):
        with Passes() as counted:
            Neumann(terms=1, first_steps=steps).solve(Diagonal(), v)
        counts.append(counted.passes)
    assert counts[1] - counts[0] == 4 * 3
