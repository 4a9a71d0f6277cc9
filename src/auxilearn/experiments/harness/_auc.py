"""How well scores tell two kinds apart."""

import torch
from torch import Tensor


def auc(scores: Tensor, positive: Tensor) -> float:
    """Return the probability that a positive has a higher score than a negative; ties count half.

    Args:
        scores: Shape (N,).
        positive: Which are positive, shape (N,); there must be both kinds.

    Returns:
        The area under the ROC curve.

    Example:
        >>> auc(torch.tensor([0.9, 0.1, 0.5, 0.5]), torch.tensor([True, False, True, False]))
        0.875
    """
    good, bad = scores[positive].sort().values, scores[~positive].sort().values
    below = torch.searchsorted(bad, good) + torch.searchsorted(bad, good, right=True)
    return float(below.double().mean()) / (2 * len(bad))
