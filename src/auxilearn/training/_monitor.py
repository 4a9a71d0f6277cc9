"""What may go wrong with learned weights, each in one line for the user."""

import math

from torch import Tensor


def collapse(weights: dict[str, float], main: str, *, floor: float = 0.02) -> str | None:
    """Say so if the combiner has silenced everything, or everything but one loss.

    Args:
        weights: The weight of each loss, in units of the initial losses.
        main: The name of the main loss, whose weight is fixed.
        floor: Weights below it count as silent.

    Returns:
        A line, or None.

    Example:
        >>> collapse({"main": 1.0, "a": 0.001, "b": 0.002}, "main")
        'The weights collapsed: all 2 auxiliary losses have weights below 0.02, so only the main loss is trained.'
    """
    others = {name: weight for name, weight in weights.items() if name != main}
    loud = [name for name, weight in others.items() if weight >= floor]
    if not loud:
        many = (
            f"all {len(others)} auxiliary losses have weights" if len(others) > 1 else "the auxiliary loss has a weight"
        )
        return f"The weights collapsed: {many} below {floor:g}, so only the main loss is trained."
    if len(loud) == 1 and len(others) > 2:
        return f"The weights collapsed onto `{loud[0]}`: all other auxiliary losses have weights below {floor:g}."
    return None


def overfitting(outer: Tensor, watched: Tensor, *, threshold: float = 2.0) -> str | None:
    """Say so if the outer loss of the samples that the combiner was learned on is lower than that of samples beside.

    Args:
        outer: The main loss of each outer sample, (N,).
        watched: The main loss of each sample of the same kind that was neither trained on nor an outer target, (M,).
        threshold: The least difference, in standard errors (Welch's t).

    Returns:
        A line, or None.
    """
    if min(len(outer), len(watched)) < 2:
        return None
    gap = float(watched.mean() - outer.mean())
    error = math.sqrt(float(outer.var()) / len(outer) + float(watched.var()) / len(watched))
    if gap <= threshold * error:
        return None
    return (
        f"The outer set is overfitted: its main loss is {float(outer.mean()):.3g}, that of held-back samples beside it "
        f"{float(watched.mean()):.3g} (t = {gap / max(error, 1e-12):.1f}). Use fewer outer steps, or a combiner with "
        "fewer parameters."
    )
