"""Something that takes steps and can be interrupted: a search, or the training of one model."""

from abc import ABC, abstractmethod

from torch import Tensor

from auxilearn.training._stateful import Stateful


class Course(Stateful, ABC):
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
