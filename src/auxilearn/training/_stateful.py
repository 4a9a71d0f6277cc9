"""Something whose state can be saved, and gone on from exactly."""

from abc import ABC, abstractmethod
from typing import Any


class Stateful(ABC):
    """The pair of methods that torch's own modules and optimizers have."""

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
