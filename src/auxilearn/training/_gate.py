"""Is a way to combine the losses better than the main loss alone? Decided on main labels nobody trained on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn.errors import InputError

_GUESS = 0.1
MAIN_ONLY, LEARNED = "main only", "learned"


@final
@dataclass(frozen=True)
class Verdict:
    """The outcome of the gate.

    Attributes:
        chosen: The candidate that was chosen.
        t: The mean paired gain of each candidate over the first, in standard errors.
        loss: The mean out-of-fold loss of each candidate.
    """

    chosen: str
    t: dict[str, float]
    loss: dict[str, float]

    def __str__(self) -> str:
        evidence = ", ".join(f"{name} t = {t:+.1f}" for name, t in self.t.items())
        if self.t and self.chosen not in self.t:
            return f"No auxiliary loss earned its place: training on the main loss alone. Against it: {evidence}."
        return f"The gate chose {self.chosen} weights. Against main only: {evidence}."


def gate(losses: Mapping[str, Tensor], *, threshold: float = 0.0) -> Verdict:
    """Choose the candidate of the lowest loss among those that are better than the first by so many standard errors.

    Args:
        losses: Out-of-fold losses of the same samples by candidate, each (N,); the first is the fall-back, main only.
        threshold: The least mean paired gain over the fall-back, in standard errors.

    Returns:
        The choice; never a candidate with a loss that is not finite.

    Raises:
        InputError: If there is no candidate, they were not judged on the same samples, or a loss of the first is not
            finite: there is nothing to fall back on then.

    Example:
        >>> worse, better = torch.tensor([1.0, 1.2, 0.9, 1.1]), torch.tensor([0.5, 0.6, 0.5, 0.4])
        >>> gate({"main only": worse, "learned": better}).chosen
        'learned'
    """
    _check(losses)
    base, *others = losses
    t = {name: _t(losses[base], losses[name]) for name in others}
    means = {name: float(values.double().mean()) for name, values in losses.items()}
    passed = [name for name in others if t[name] > threshold]
    return Verdict(min(passed, key=means.__getitem__) if passed else base, t, means)


def _t(before: Tensor, after: Tensor) -> float:
    gain = (before - after).double()
    error = float(gain.std()) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
    return float(gain.mean()) / max(error, 1e-12)


def _check(losses: Mapping[str, Tensor]) -> None:
    rule = "`losses` must hold a vector for each candidate, of the same samples."
    shapes = {name: tuple(values.shape) for name, values in losses.items()}
    if not shapes or len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 1:
        raise InputError(explain(rule, f"Their shapes are {shapes}.", "Judge all candidates on the same labels."))
    base = next(iter(losses))
    if not bool(losses[base].isfinite().all()):
        finding = f"NaN or infinite for {int((~losses[base].isfinite()).sum())} of {len(losses[base])} samples."
        cure = "Look at the model in evaluation mode: its statistics or its logits may have overflowed."
        raise InputError(explain(f"The out-of-fold losses of `{base}` must be finite.", finding, cure))


def calibrated_losses(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Return the cross entropy of each sample after the best of 41 temperatures, of predictions mixed with a guess.

    .. math:: \ell_i = -\ln\left[(1 - \varepsilon) \operatorname{softmax}(z_i / T)_{y_i} + \varepsilon / C\right],
        \qquad \varepsilon = 0.1

    Overconfidence grows with training on auxiliary labels and says nothing about accuracy; without calibration the gate
    rejects the largest gains. The guess keeps one sure mistake from outweighing many samples. It is part of the
    prediction, so this is a proper score; to clamp the losses instead is not, and accepts up to one in four
    candidates that are no better.

    Args:
        logits: Shape (N, classes).
        labels: Shape (N,).

    Returns:
        Shape (N,).

    References:
        Guo et al., "On calibration of modern neural networks", ICML 2017, for the temperature.
    """
    temperatures = torch.logspace(-1, 1.5, 41, device=logits.device).view(-1, 1, 1)
    p = (logits.float() / temperatures).softmax(-1)  # (temperatures, N, classes)
    right = p.gather(-1, labels.view(1, -1, 1).expand(len(p), -1, 1)).squeeze(-1)
    losses = -((1 - _GUESS) * right + _GUESS / logits.shape[-1]).log()
    return losses[losses.mean(1).argmin()]
