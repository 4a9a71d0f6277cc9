"""Second derivatives of the mean of the ranks' losses."""

from collections.abc import Sequence
from typing import final

from torch import Tensor

from auxilearn._vectors import Vector
from auxilearn.curvature import LossCurvature
from auxilearn.distributed._ranks import Ranks


@final
class Averaged(LossCurvature):
    r"""The mean of the ranks' operators.

    .. math:: H v = \frac1R \sum_{r=1}^{R} H_r v

    A product is this rank's product and one all-reduce. Whatever the operator is, this is exact, for the derivative of
    a mean is the mean of the derivatives.

    Args:
        inner: This rank's operator.
        params: The weights of the whole: those that reach the loss of any rank, in the same order on all.
        ranks: The ranks.
        damping: Added to the diagonal of the mean.
    """

    def __init__(self, inner: LossCurvature, params: Sequence[Tensor], ranks: Ranks, *, damping: float = 0.0) -> None:
        super().__init__(params, damping=damping)
        self._inner, self._ranks = inner, ranks
        at = {id(p): i for i, p in enumerate(self.params)}
        self._rows = [at[id(p)] for p in inner.params]

    def gradient(self) -> Vector:
        return self._mean(self._inner.gradient())

    def _multiply(self, v: Vector, /) -> Vector:
        return self._mean(self._inner @ self._own(v))

    def cross(self, x: Vector, aux_params: Sequence[Tensor], /) -> tuple[Tensor | None, ...]:
        found = self._inner.cross(self._own(x), aux_params)
        mean, hit = self._ranks.mean(found, aux_params, [g is not None for g in found])
        return tuple(g if h else None for g, h in zip(mean, hit, strict=True))

    def release(self) -> None:
        self._inner.release()

    def _own(self, v: Vector) -> Vector:
        return Vector(v.tensors[i] for i in self._rows)

    def _mean(self, mine: Vector) -> Vector:
        values: list[Tensor | None] = [None] * len(self.params)
        for i, t in zip(self._rows, mine, strict=True):
            values[i] = t
        return Vector(self._ranks.mean(values, self.params)[0])
