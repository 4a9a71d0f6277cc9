"""What training returns."""

from dataclasses import dataclass, field
from typing import final

from torch import nn

from auxilearn.combiners import LossCombiner
from auxilearn.training._gate import Verdict


@final
@dataclass(frozen=True)
class Record:
    """The state of training at one moment.

    Attributes:
        phase: ``"search"`` or ``"train"``.
        step: The number of the step.
        losses: The mean of each loss over the batch, by name, in its own units.
        weights: The weight of each loss, by name.
    """

    phase: str
    step: int
    losses: dict[str, float]
    weights: dict[str, float]


@final
@dataclass(frozen=True)
class Fit:
    """The outcome of :meth:`Trainer.fit`.

    Attributes:
        model: The trained network, in evaluation mode.
        weights: The weight of each loss, by name: in units of the initial losses if the method normalises; of a
            weighting that changes along the way, those of its last step.
        combiner: The combiner that was learned; None for other methods, and where the gate refused it.
        verdict: What the gate decided, if there was one.
        usefulness: For each auxiliary loss the t value over folds of the slope of the held-out main loss along it:
            above 2 it helped, below −2 it harmed. Empty for methods without folds.
        notes: What the user should know, one line each; they were logged, too.
        history: Losses and weights over time.
    """

    model: nn.Module
    weights: dict[str, float]
    combiner: LossCombiner | None = None
    verdict: Verdict | None = None
    usefulness: dict[str, float] = field(default_factory=dict[str, float])
    notes: tuple[str, ...] = ()
    history: tuple[Record, ...] = ()

    def __str__(self) -> str:
        width = max(map(len, self.weights))
        lines = [f"{'loss':<{width}}  weight" + ("  usefulness (t)" if self.usefulness else "")]
        for name, weight in self.weights.items():
            t = f"  {self.usefulness[name]:14.1f}" if name in self.usefulness else ""
            lines.append(f"{name:<{width}}  {weight:6.2f}{t}")
        if self.usefulness:
            lines.append("t over folds: above 2 a loss helped the held-out main loss, below −2 it harmed it.")
        return "\n".join([*lines, *self.notes])
