"""What solvers know of curvature, and what the implicit function theorem needs besides."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

from torch import Tensor

from auxilearn import _checks
from auxilearn._vectors import Vector


class CurvatureOperator(ABC):
    r"""A symmetric linear map on parameter space, known only by its products.

    .. math:: H v = \text{_multiply}(v) + \delta v

    Subclasses implement ``_multiply``, which must be linear and symmetric and must not change ``v``.

    Args:
        damping: :math:`\delta \ge 0`, added to the diagonal.

    Attributes:
        damping: The damping.
        products: How many products were taken so far.

    Example:
        >>> import torch
        >>> class Twice(CurvatureOperator):
        ...     def _multiply(self, v):
        ...         return 2 * v
        >>> H = Twice(damping=0.5)
        >>> (H @ Vector([torch.ones(1)])).tensors[0].item(), H.products
        (2.5, 1)
    """

    def __init__(self, *, damping: float = 0.0) -> None:
        _checks.at_least("damping", damping, 0.0)
        self.damping = damping
        self.products = 0

    @final
    def __matmul__(self, v: Vector, /) -> Vector:
        self.products += 1
        product = self._multiply(v)
        return product.add(v, scale=self.damping) if self.damping else product

    @abstractmethod
    def _multiply(self, v: Vector, /) -> Vector: ...

    @property
    def half_precision(self) -> bool:
        """Whether products pass through bfloat16 or float16, so that they are symmetric to a few thousandths only."""
        return False


class LossCurvature(CurvatureOperator):
    r"""Second derivatives of a training loss :math:`L_T(W, \varphi)`, in the weights and across the two levels.

    Args:
        params: The weights :math:`W` that reach the loss; the operator acts on vectors of their shapes.
        damping: See :class:`CurvatureOperator`.

    Attributes:
        params: The weights :math:`W` that reach the loss.
    """

    def __init__(self, params: Sequence[Tensor], *, damping: float = 0.0) -> None:
        super().__init__(damping=damping)
        self.params: tuple[Tensor, ...] = tuple(params)

    @abstractmethod
    def gradient(self) -> Vector:
        r"""Return :math:`\partial_W L_T`, without a graph.

        Returns:
            The gradient.
        """

    @abstractmethod
    def cross(self, x: Vector, aux_params: Sequence[Tensor], /) -> tuple[Tensor | None, ...]:
        r"""Return :math:`(\partial_\varphi \partial_W L_T)^\top x`, the last factor of the implicit function theorem.

        Args:
            x: A vector of the shapes of ``params``.
            aux_params: The auxiliary parameters :math:`\varphi`.

        Returns:
            One tensor for each auxiliary parameter; None for those that the mixed derivative does not reach.
        """

    def release(self) -> None:
        """Free what the operator holds for its products; it cannot be used afterwards."""
