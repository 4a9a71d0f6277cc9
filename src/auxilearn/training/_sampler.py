"""Which rows each step sees."""

from typing import Any, cast, final

import torch
from torch import Tensor

_APART = 1_000_003  # between the seeds of a step's two kinds of rows


def chunks(rows: Tensor, size: int) -> list[Tensor]:
    """Split rows into pieces that fit a forward pass.

    Args:
        rows: Row numbers, (N,).
        size: How many fit.

    Returns:
        At most so many each.
    """
    return list(cast("tuple[Tensor, ...]", rows.split(size)))


@final
class Sampler:
    """Draw the rows of each step: some with a main label, some without.

    A pure function of the seed and the number of draws, so that all methods see the same batches and a run resumes
    exactly.

    Args:
        labelled: Rows with a main label that may be drawn.
        others: The other rows.
        batch_size: How many others a step sees; and how many labelled ones, if there are more than that.
        seed: The seed.
    """

    def __init__(self, labelled: Tensor, others: Tensor, *, batch_size: int, seed: int) -> None:
        # A generator each, so that a method that sees no others draws the same labelled rows.
        drawn = [(labelled, seed + _APART), (others, seed)]
        self._parts = [_Epochs(rows, batch_size, torch.Generator().manual_seed(s)) for rows, s in drawn if len(rows)]

    def draw(self) -> Tensor:
        """Draw the rows of the next step.

        Returns:
            Labelled rows first, shape (B,).
        """
        return torch.cat([part.draw() for part in self._parts])

    def state_dict(self) -> dict[str, Any]:
        """Return where the sampler stands.

        Returns:
            The state.
        """
        return {"left": [part.left for part in self._parts], "random": [part.random for part in self._parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: What :meth:`state_dict` returned.
        """
        for part, left, random in zip(self._parts, state["left"], state["random"], strict=True):
            part.left, part.random = left, random


@final
class _Epochs:
    # Without replacement; what is left of an epoch joins the next, so that every batch is full.
    def __init__(self, rows: Tensor, size: int, generator: torch.Generator) -> None:
        self.rows, self.size, self._generator = rows, size, generator
        self.left = rows[:0]

    @property
    def random(self) -> Tensor:
        return self._generator.get_state()

    @random.setter
    def random(self, state: Tensor) -> None:
        self._generator.set_state(state)

    def draw(self) -> Tensor:
        if len(self.rows) <= self.size:
            return self.rows
        if len(self.left) < self.size:
            self.left = torch.cat([self.left, self.rows[torch.randperm(len(self.rows), generator=self._generator)]])
        drawn, self.left = self.left[: self.size], self.left[self.size :]
        return drawn
