"""Rows of a Jacobian that belong to one layer: kept as the two factors they are made of, or written out."""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from auxilearn._vectors import Vector


class JacobianRows(ABC):
    """The columns that one layer's weights have in a matrix J of r rows."""

    @abstractmethod
    def gram(self) -> Tensor:
        """Return what these columns contribute to J Jᵀ.

        Returns:
            Shape (r, r).
        """

    @abstractmethod
    def times(self, v: Vector, /) -> Tensor:
        """Return what these columns contribute to J v.

        Args:
            v: A vector of the operator's parameters.

        Returns:
            Shape (r,).
        """

    @abstractmethod
    def transposed(self, u: Tensor, /) -> dict[int, Tensor]:
        """Return these columns' part of Jᵀ u.

        Args:
            u: Shape (r,).

        Returns:
            A tensor for each of the parameters that are the layer's, by its place.
        """


@final
class LinearRows(JacobianRows):
    """Rows b aᵀ of a linear layer with inputs a and pulled-back outputs b, which are never multiplied out.

    Args:
        inputs: Those of the samples that have rows, (s, n); a column of ones at the end stands for the bias.
        of: The sample of each row, (r,).
        slopes: The pulled-back outputs, (r, m).
        weight: The place of the weight.
        bias: That of the bias; None without.
    """

    def __init__(self, inputs: Tensor, of: Tensor, slopes: Tensor, weight: int, bias: int | None) -> None:
        self._inputs, self._of, self._slopes = inputs, of, slopes
        self._weight, self._bias = weight, bias

    def gram(self) -> Tensor:
        inputs = self._inputs @ self._inputs.T
        return (self._slopes @ self._slopes.T).mul_(inputs[self._of][:, self._of])

    def times(self, v: Vector, /) -> Tensor:
        matrix = v.tensors[self._weight]
        if self._bias is not None:
            matrix = torch.cat([matrix, v.tensors[self._bias][:, None]], 1)
        return (self._slopes * (self._inputs @ matrix.T)[self._of]).sum(1)

    def transposed(self, u: Tensor, /) -> dict[int, Tensor]:
        slopes = self._slopes.new_zeros(len(self._inputs), self._slopes.shape[1])
        mixed = slopes.index_add_(0, self._of, u[:, None] * self._slopes).T @ self._inputs  # (m, n)
        if self._bias is None:
            return {self._weight: mixed}
        return {self._weight: mixed[:, :-1], self._bias: mixed[:, -1]}


@final
class DenseRows(JacobianRows):
    """Rows of one parameter, written out.

    Args:
        rows: Shape (r, *parameter).
        place: That of the parameter.
    """

    def __init__(self, rows: Tensor, place: int) -> None:
        self._shape, self._place = rows.shape[1:], place
        self._rows = rows.flatten(1)

    def gram(self) -> Tensor:
        return self._rows @ self._rows.T

    def times(self, v: Vector, /) -> Tensor:
        return self._rows @ v.tensors[self._place].flatten()

    def transposed(self, u: Tensor, /) -> dict[int, Tensor]:
        return {self._place: (u @ self._rows).reshape(self._shape)}
