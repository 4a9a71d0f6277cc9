"""Means of what is measured between two points of a curve: a single batch is too noisy to read."""

from collections.abc import Mapping
from typing import Any, final

from auxilearn.training._stateful import Stateful


@final
class Average(Stateful):
    """The mean of numbers by name, since it was last taken.

    Example:
        >>> average = Average()
        >>> for loss in (1.0, 3.0):
        ...     average.add({"main": loss})
        >>> average.take(), average.take()
        ({'main': 2.0}, {})
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, values: Mapping[str, float]) -> None:
        """Count numbers in.

        Args:
            values: By name, the same names every time.
        """
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def take(self) -> dict[str, float]:
        """Return the means, and start anew.

        Returns:
            By name; nothing if nothing was counted.
        """
        found = {name: total / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums, self._count = dict(state["sums"]), int(state["count"])
