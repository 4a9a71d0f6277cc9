"""The weights that were best on the validation rows."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, final

import torch
from torch import nn

from auxilearn.training._looped import evaluating
from auxilearn.training._stateful import Stateful

Validate = Callable[[nn.Module], float]


@final
class Best(Stateful):
    """Remember the best weights; ties go to the later ones, as in the original code.

    Attributes:
        value: The best value of the metric so far; None before the first look.
    """

    def __init__(self) -> None:
        self.value: float | None = None
        self._weights: dict[str, Any] | None = None

    def look(self, model: nn.Module, validate: Validate) -> float:
        """Measure a model, and remember its weights if none were better.

        Args:
            model: The model; it is measured in evaluation mode, and left in its own.
            validate: From the model to the metric, higher is better.

        Returns:
            The metric.
        """
        with torch.no_grad(), evaluating(model):
            value = float(validate(model))
        if self.value is None or value >= self.value:
            self.value, self._weights = value, deepcopy(model.state_dict())
        return value

    def restore(self, model: nn.Module) -> None:
        """Give a model the best weights; without a look it keeps its own.

        Args:
            model: The model.
        """
        if self._weights is not None:
            model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value, self._weights = state["value"], state["weights"]
