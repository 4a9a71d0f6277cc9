"""What a method is: a name, a ladder of budgets, and how to solve at a state with one of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from budgets import LADDER
from state import State
from torch import Tensor

from auxilearn import Vector

Family = Literal["ours", "original", "peer"]
Solve = Callable[[], "Vector | Tensor"]


@dataclass(frozen=True)
class Method:
    """A solver under a ladder of budgets.

    Attributes:
        name: Its name in the tables.
        family: ``ours``, ``original`` (the package of the paper) or ``peer``.
        make: Takes a state and a budget, prepares what is not counted, such as the memory of earlier calls, and
            returns what is counted: a function that returns x ≈ H⁻¹v or, of packages that take the mixed product
            themselves, the hypergradient.
        ladder: The budgets.
        budget: What they are.
        remembers: Whether it starts from the solutions of earlier outer steps.
        bisects: Whether the smallest budget that reaches the threshold is looked for between those of the ladder.
    """

    name: str
    family: Family
    make: Callable[[State, int], Solve]
    ladder: tuple[int, ...] = LADDER
    budget: str = "products"
    remembers: bool = False
    bisects: bool = True
