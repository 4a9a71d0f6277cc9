"""Which sub-classes belong to which main class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn.errors import InputError


@final
@dataclass(frozen=True)
class Hierarchy:
    r"""The map :math:`\psi` of the papers: main class c owns a block of :math:`\psi_c` sub-classes.

    Attributes:
        sizes: :math:`\psi`, one number for each main class. The blocks follow each other.

    Raises:
        InputError: If there is no class, or a block is empty.

    Example:
        >>> hierarchy = Hierarchy((2, 3))
        >>> hierarchy.mask(torch.tensor([1, 0])).int()
        tensor([[0, 0, 1, 1, 1],
                [1, 1, 0, 0, 0]], dtype=torch.int32)

    References:
        Liu et al., "Self-Supervised Generalisation with Meta Auxiliary Learning", NeurIPS 2019: ψ.
    """

    sizes: tuple[int, ...]

    def __init__(self, sizes: Sequence[int]) -> None:
        if not sizes:
            raise InputError(explain("`sizes` must name at least one main class.", "It is empty.", "E.g. (5, 5)."))
        for number, size in enumerate(sizes):
            _checks.count(f"sizes[{number}]", size, 1)
        object.__setattr__(self, "sizes", tuple(int(size) for size in sizes))

    @classmethod
    def even(cls, classes: int, subclasses: int) -> "Hierarchy":
        """Give every main class as many sub-classes.

        Args:
            classes: The number of main classes.
            subclasses: The size of each block.

        Returns:
            The hierarchy.

        Example:
            >>> Hierarchy.even(2, 3)
            Hierarchy(sizes=(3, 3))
        """
        _checks.count("classes", classes, 1)
        return cls((subclasses,) * classes)

    @property
    def num_classes(self) -> int:
        """The number of main classes."""
        return len(self.sizes)

    @property
    def num_subclasses(self) -> int:
        """The number of sub-classes, all blocks together."""
        return sum(self.sizes)

    @property
    def owners(self) -> Tensor:
        """The main class of each sub-class, shape (S,)."""
        return torch.repeat_interleave(torch.arange(self.num_classes), torch.tensor(self.sizes))

    def mask(self, labels: Tensor, /) -> Tensor:
        """Say which sub-classes each sample may use.

        Args:
            labels: Main classes, shape (B,), integers.

        Returns:
            Shape (B, S), True inside the block.

        Raises:
            InputError: If the labels are no integers in one dimension, or out of range.
        """
        rule = f"`labels` must be integers from 0 to {self.num_classes - 1}, shape (B,)."
        if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            finding = f"They have shape {tuple(labels.shape)} and {labels.dtype}."
            raise InputError(explain(rule, finding, "Pass class numbers, not one-hot rows."))
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            finding = f"They go from {int(labels.min())} to {int(labels.max())}."
            raise InputError(explain(rule, finding, "Leave samples without a main label out."))
        return labels[:, None] == self.owners.to(labels.device)
