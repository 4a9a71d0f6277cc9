"""Keep few of many terms of a sum, so that the sum stays right on average."""

import torch
from torch import Tensor


def sampled(weights: Tensor, size: int, generator: torch.Generator, /) -> tuple[Tensor, Tensor]:
    r"""Keep terms with probabilities in proportion to their weights, by systematic sampling.

    Term :math:`i` is kept with :math:`\pi_i = \min(1, c\,w_i)`, where :math:`\sum_i \pi_i` is the size wanted; one that
    is divided by :math:`\pi_i` then stands for itself on average.

    Args:
        weights: Not negative, shape (n,).
        size: How many are kept, up to rounding; all of positive weight if there are no more.
        generator: Where the only random number comes from.

    Returns:
        The places of those kept, ascending, and their :math:`\pi_i`.

    References:
        Madow, Ann. Math. Statist. 1949.
    """
    chance = (weights > 0).to(weights)
    if size < int(chance.sum()):
        sure = torch.zeros_like(chance, dtype=torch.bool)
        while True:  # ends: every round but the last finds another term that is sure
            chance = weights * ((size - int(sure.sum())) / weights[~sure].sum())
            more = ~sure & (chance >= 1)
            chance = torch.where(sure, torch.ones_like(chance), chance)
            if not bool(more.any()):
                break
            sure |= more
    edges = chance.double().cumsum(0) + torch.rand((), generator=generator, dtype=torch.float64).to(chance.device)
    before = torch.cat([edges[:1] - chance[:1], edges[:-1]])
    at = (edges.floor() > before.floor()).nonzero()[:, 0]
    return at, chance[at]
