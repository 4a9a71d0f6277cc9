"""Random numbers that are a function of the rows in a batch."""

from typing import final

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


@final
class RowNoise:
    """Draw numbers for each row of a batch: the same for the same rows, others when a row is in other company.

    So the losses of a batch are a function of the weights, which hypergradients and weightings compute again and again,
    and yet no two epochs show a row the same way. There is no state, and no word of it needs to be kept.

    Args:
        rows: The row numbers of the batch, integers, shape (B,).

    Example:
        >>> first, again = RowNoise(torch.tensor([3, 4])), RowNoise(torch.tensor([4, 3]))
        >>> torch.equal(first.uniform(5, stream=0), again.uniform(5, stream=0).flip(0))
        True
        >>> torch.equal(first.uniform(5, stream=0)[0], RowNoise(torch.tensor([3])).uniform(5, stream=0)[0])
        False

    References:
        Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014: the mixing of bits.
    """

    def __init__(self, rows: Tensor) -> None:
        each = _mixed(rows.long() * _GOLDEN + _FIRST)
        self._keys = _mixed(each + _mixed(each.sum()))

    def uniform(self, count: int, *, stream: int) -> Tensor:
        """Draw numbers between 0 and 1.

        Args:
            count: How many for each row.
            stream: Tells draws apart that are to be independent.

        Returns:
            Below 1, shape (B, count).
        """
        places = torch.arange(count, device=self._keys.device) + (stream << 32)
        bits = _mixed(self._keys[:, None] + (places + 1) * _GOLDEN)
        return _shifted(bits, 40).float() / 2**24

    def normal(self, count: int, *, stream: int) -> Tensor:
        """Draw standard normal numbers.

        Args:
            count: How many for each row.
            stream: Tells draws apart that are to be independent.

        Returns:
            Shape (B, count).
        """
        drawn = self.uniform(2 * count, stream=stream)
        first, second = drawn[:, :count], drawn[:, count:]
        return (-2 * torch.log1p(-first)).sqrt() * (2 * torch.pi * second).cos()


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    return (x >> by) & (2 ** (64 - by) - 1)  # torch's shift of signed integers keeps the sign
