"""Is a set of weights better than no auxiliary loss at all? Decided on out-of-fold logits of the main labels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from auxilearn.experiments._problem import cross_entropy


@final
@dataclass(frozen=True)
class Verdict:
    """The outcome of the gate.

    Attributes:
        chosen: The candidate of each seed.
        t: The paired t of each candidate against the first, by seed.
    """

    chosen: list[str]
    t: dict[str, list[float]]


def gate(candidates: Mapping[str, Tensor], labels: Tensor, *, threshold: float = 2.0) -> Verdict:
    """Choose the candidate of the lowest calibrated loss among those that are significantly better than the first.

    Args:
        candidates: Out-of-fold logits by name, shape (S, N, classes); the first is the fall-back, main only.
        labels: Shape (S, N).
        threshold: The least mean paired gain, in standard errors.

    Returns:
        The choice of each seed.

    Example:
        >>> labels = torch.arange(20)[None] % 2
        >>> sure = 4.0 * torch.nn.functional.one_hot(labels, 2)
        >>> noise = torch.randn(1, 20, 2, generator=torch.Generator().manual_seed(0))
        >>> gate({"main only": noise, "learned": sure + noise}, labels).chosen
        ['learned']
    """
    losses = {name: calibrated_losses(logits, labels) for name, logits in candidates.items()}
    base, *others = losses
    t: dict[str, list[float]] = {}
    for name in others:
        gain = losses[base] - losses[name]
        error = gain.std(1) / math.sqrt(gain.shape[1])
        t[name] = [float(a) for a in gain.mean(1) / (error + 1e-12)]
    chosen: list[str] = []
    for s in range(len(labels)):
        passed = [name for name in others if t[name][s] > threshold]
        chosen.append(min(passed, key=lambda name: float(losses[name][s].mean())) if passed else base)
    return Verdict(chosen, t)


def calibrated_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of each sample after the best of 41 temperatures of each seed.

    Overconfidence grows with training on auxiliary labels and says nothing about accuracy; without calibration the gate
    rejects the largest gains.

    Args:
        logits: Shape (S, N, classes).
        labels: Shape (S, N).

    Returns:
        Shape (S, N).
    """
    temperatures = torch.logspace(-1, 1.5, 41)
    losses = cross_entropy(logits[:, None] / temperatures.reshape(1, -1, 1, 1), labels)  # (S, temperatures, N)
    best = losses.mean(-1).argmin(1)
    return losses[torch.arange(len(best)), best]
