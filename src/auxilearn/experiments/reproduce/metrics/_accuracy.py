"""How often the right class is among the first k."""

from typing import Any

from torch import Tensor

from auxilearn._checks import count
from auxilearn._extras import require


def top_k(logits: Tensor, classes: Tensor, *, k: int = 1) -> float:
    """Compute the share of samples whose class is among the k largest logits.

    Args:
        logits: Shape (N, C).
        classes: Shape (N,), from 0.
        k: How many guesses are allowed.

    Returns:
        In percent.

    Raises:
        InputError: If k is below 1.
        MissingExtraError: If torchmetrics is not installed; the extra ``reproduce`` brings it.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
        >>> top_k(logits, torch.tensor([0, 1])), top_k(logits, torch.tensor([0, 1]), k=3)
        (50.0, 100.0)
    """
    count("k", k, 1)
    metrics: Any = require("torchmetrics.functional.classification", extra="reproduce")
    found = metrics.multiclass_accuracy(
        logits, classes, num_classes=logits.shape[1], average="micro", top_k=min(k, logits.shape[1])
    )
    return 100 * float(found)
