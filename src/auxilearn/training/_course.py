"""Something that takes steps and can be interrupted: a search, or the training of one model."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor


class Course(ABC):
    """A number of steps.

    Attributes:
        number: Steps taken.
        means: The mean of each loss over the last batch, in its own units, (K,).
        weights: The weight of each loss at the last step, (K,).
    """

    number: int
    means: Tensor

    @property
    @abstractmethod
    def weights(self) -> Tensor:
        """The weight of each loss at the last step, (K,)."""

    @abstractmethod
    def step(self) -> None:
        """Take one step."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on exactly.

        Returns:
            The state.
        """

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: What :meth:`state_dict` returned.
        """
