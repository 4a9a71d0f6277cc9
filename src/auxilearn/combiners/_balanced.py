"""Random positive matrices with which a network of any depth starts as the plain sum of its inputs."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor


def balanced(rows: int, columns: int, /, generator: torch.Generator | None = None) -> Tensor:
    r"""Draw a positive matrix whose rows sum to 1 and whose columns sum to rows / columns.

    .. math:: M \mathbf 1 = \mathbf 1, \qquad \mathbf 1^\top M = \tfrac{m}{n} \mathbf 1^\top

    The first makes every hidden unit an average of its inputs, on their scale. By the second, layers
    :math:`M_L \cdots M_1` closed by a row of the constant :math:`K / m_L` give weight 1 to each of the :math:`K`
    inputs, while the units differ, so that training can tell them apart.

    Args:
        rows: :math:`m`, the number of outputs.
        columns: :math:`n`, the number of inputs.
        generator: The source of randomness on the CPU, torch's own by default.

    Returns:
        The matrix, ``(rows, columns)``, in torch's default dtype.

    Example:
        >>> balanced(2, 4).sum(0)
        tensor([0.5000, 0.5000, 0.5000, 0.5000])

    References:
        Sinkhorn and Knopp, "Concerning nonnegative matrices and doubly stochastic matrices", Pacific J. Math., 1967.
    """
    matrix = 0.5 + torch.rand(rows, columns, dtype=torch.float64, generator=generator)
    # Entries within a factor of 3 contract the error by at least 4 in each round: 30 rounds reach float64.
    for _ in range(30):
        matrix = matrix / matrix.sum(1, keepdim=True)
        matrix = matrix / matrix.sum(0, keepdim=True) * (rows / columns)
    return matrix.to(torch.get_default_dtype())


def balanced_stack(inputs: int, widths: Sequence[int], generator: torch.Generator | None) -> Iterator[Tensor]:
    """Draw the matrices of a network, from its inputs upwards.

    Args:
        inputs: The number of inputs, :math:`K`.
        widths: The widths of the hidden layers.
        generator: See :func:`balanced`.

    Returns:
        A balanced matrix for each layer.
    """
    return (balanced(rows, columns, generator) for columns, rows in pairwise((inputs, *widths)))


def closing_row(inputs: int, widths: Sequence[int]) -> Tensor:
    """Make the row that closes a balanced stack, so that every input has weight 1.

    Args:
        inputs: The number of inputs, :math:`K`.
        widths: The widths of the hidden layers.

    Returns:
        The constant :math:`K / m_L`, as often as the last layer is wide.
    """
    return torch.full((widths[-1],), inputs / widths[-1])
