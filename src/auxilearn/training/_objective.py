"""What a model descends: a weighted sum, or a combiner that is being learned or was found."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from auxilearn.combiners import DeepLinear, Linear, LossCombiner
from auxilearn.training._problem import Measured
from auxilearn.training._stateful import Stateful
from auxilearn.training._upper import Upper
from auxilearn.weighting import MainOnly, Step, Weighting


@final
@dataclass(frozen=True)
class Moment:
    """What a step is, besides its losses.

    Attributes:
        params: The weights.
        number: The number of the step.
        learning_rate: That of the weights.
        outer: Computes the main loss on another batch, with its graph, leaving no trace.
        again: Computes the losses of the same batch anew.
        first: Whether this is the first of the batches whose gradients the step averages.
    """

    params: tuple[nn.Parameter, ...]
    number: int
    learning_rate: float
    outer: Callable[[], Tensor]
    again: Callable[[], Measured]
    first: bool = True


class Objective(Stateful, ABC):
    """A map from the losses of a step to the scalar to descend.

    Attributes:
        main_only: Whether only rows with a main label are needed.
    """

    main_only: bool

    @property
    @abstractmethod
    def weights(self) -> Tensor:
        """The weight of each loss at the last step, (K,)."""

    @abstractmethod
    def total(self, measured: Measured, moment: Moment) -> Tensor:
        """Compute the scalar.

        Args:
            measured: The losses of one model, (1, B, K), in their own units.
            moment: The step.

        Returns:
            The scalar with its graph.
        """

    def after(self) -> None:
        """Look at what the step did."""


@final
class Weighted(Objective):
    """The weighted sum of a rule of the literature.

    Args:
        weighting: The rule; it is prepared here.
        scale: The initial losses, (K,).
        main: The column of the main loss.
        steps: How many steps there will be.
    """

    def __init__(self, weighting: Weighting, scale: Tensor, *, main: int, steps: int) -> None:
        weighting.prepare(len(scale), main, steps)
        self._weighting, self._main = weighting.to(scale.device), main
        self._unit = scale if weighting.normalise else torch.ones_like(scale)
        self.main_only = isinstance(weighting, MainOnly)
        self._weights = torch.ones_like(scale)
        self._last: tuple[Step, Moment] | None = None

    @property
    def weights(self) -> Tensor:
        """The weight of each loss at the last step, in units of the initial losses if they are normalised, (K,)."""
        return self._weights

    def total(self, measured: Measured, moment: Moment) -> Tensor:
        losses = measured.over(self._unit).means()[0]
        if moment.first:  # a rule is asked once a step; it sees the first batch of several
            unit = self._unit[self._main]
            rate, outer = moment.learning_rate, lambda: moment.outer() / unit
            step = Step(losses, moment.params, moment.number, self._main, rate, outer)
            self._weights = self._weighting.weights(step)
            self._last = step, moment
        return (self._weights * losses).sum()

    def after(self) -> None:
        if self._last is not None:
            step, moment = self._last
            self._weighting.after(step, lambda: moment.again().over(self._unit).means()[0])
            self._last = None

    def state_dict(self) -> dict[str, Any]:
        return {"weighting": self._weighting.state_dict(), "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._weighting.load_state_dict(state["weighting"])
        self._weights = state["weights"].to(self._unit.device)


@final
class Combined(Objective):
    """The normalised main loss plus a combiner of the normalised auxiliary losses.

    Args:
        combiner: The combiner: one that was found, or the rows of one that is being learned.
        scale: The initial losses, (K,).
        main: The column of the main loss.
    """

    def __init__(self, combiner: LossCombiner | Upper, scale: Tensor, *, main: int) -> None:
        self._combiner, self._scale, self._main = combiner, scale, main
        self._auxiliary = [k for k in range(len(scale)) if k != main]
        self.main_only = False
        self._seen: Tensor | None = None

    def total(self, measured: Measured, moment: Moment) -> Tensor:
        return self.of(measured, torch.ones_like(self._scale[self._auxiliary]))

    def of(self, measured: Measured, factors: Tensor) -> Tensor:
        """Combine the losses, each auxiliary one multiplied by a factor first.

        Args:
            measured: The losses of one model, (1, B, K), in their own units.
            factors: Shape (K − 1,).

        Returns:
            The scalar with its graph.
        """
        main, losses = combiner_inputs(measured, self._scale, self._main, self._auxiliary, samples=self._reads_samples)
        self._seen = losses.detach()
        losses = losses * factors
        combined = (
            self._combiner.combine(losses[None])[0] if isinstance(self._combiner, Upper) else self._combiner(losses)
        )
        return main + combined

    def combiner(self) -> LossCombiner:
        """Return the combiner as it is now, frozen.

        Returns:
            The one that was found, or the average of the one that was learned.
        """
        return self._combiner.combiner() if isinstance(self._combiner, Upper) else self._combiner

    @property
    def _reads_samples(self) -> bool:
        if isinstance(self._combiner, Upper):
            return self._combiner.reads_samples
        return not isinstance(self._combiner, (Linear, DeepLinear))

    @property
    def weights(self) -> Tensor:
        """The weight of each loss at the last step, (K,); computed when asked for."""
        weights = torch.ones_like(self._scale)
        if self._seen is not None:
            combiner = self._combiner
            found = combiner.weights(self._seen) if isinstance(combiner, Upper) else combiner.weights_at(self._seen)
            weights[self._auxiliary] = found.to(weights)
        return weights

    def state_dict(self) -> dict[str, Any]:
        return {"combiner": self._combiner.state_dict(), "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._combiner.load_state_dict(state["combiner"])
        self._seen = None if state["seen"] is None else state["seen"].to(self._scale.device)


def combiner_inputs(
    measured: Measured, scale: Tensor, main: int, auxiliary: Sequence[int], *, samples: bool
) -> tuple[Tensor, Tensor]:
    """Split one model's losses into what the main term and the combiner read, in units of the initial losses.

    Args:
        measured: The losses of one model, (1, B, K), in their own units.
        scale: The initial losses, (K,).
        main: The column of the main loss.
        auxiliary: The other columns.
        samples: Whether the combiner reads samples.

    Returns:
        The mean main loss, and (K − 1,) means or (B', K − 1) losses of the samples that have any.
    """
    values = measured.over(scale)
    means = values.means()[0]
    if not samples:
        return means[main], means[list(auxiliary)]
    having = measured.present[:, list(auxiliary)].any(1)
    return means[main], values.values[0, having][:, list(auxiliary)]
