"""The mean of curvature operators over batches, one batch in memory at a time."""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar, cast, final

from torch import Tensor

from auxilearn._autograd import filled
from auxilearn._checks import explain
from auxilearn._vectors import Vector
from auxilearn.curvature._base import LossCurvature
from auxilearn.errors import InputError
from auxilearn.safety import ReplayedRandomness

Batch = TypeVar("Batch")


@final
class Streamed(LossCurvature, Generic[Batch]):
    r"""The curvature of the mean loss over several batches, rebuilt batch by batch for every product.

    .. math:: H v = \frac1n \sum_{b=1}^{n} H_b v

    Peak memory is that of one batch, whatever their number; the price is a forward pass and a gradient more per batch
    and product. Every pass sees the same random numbers (the same dropout masks), and the random state is put back.

    Args:
        build: Makes the operator of one batch, e.g. ``lambda batch: Hessian(loss(batch), params)``. Wrap the forward
            pass in :func:`auxilearn.safety.second_order` to keep BatchNorm statistics as they are.
        batches: The batches; the iterable is read once and its batches are kept.
        damping: :math:`\delta \ge 0`, added to the diagonal (besides what ``build`` adds).

    Attributes:
        passes: How many batches a product passes through.

    Raises:
        InputError: If there are no batches, ``build`` makes no operator, or two batches' operators act on different
            parameters.

    Example:
        >>> import torch
        >>> from auxilearn.curvature import Hessian
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> H = Streamed(lambda x: Hessian((w * x).square().sum(), [w]), [torch.ones(1), 3 * torch.ones(1)])
        >>> (H @ Vector([torch.ones(1)])).tensors[0].item()
        10.0
    """

    def __init__(
        self, build: Callable[[Batch], LossCurvature], batches: Iterable[Batch], *, damping: float = 0.0
    ) -> None:
        if not callable(cast("object", build)):
            rule, cure = "`build` must be a function.", "Pass `lambda batch: Hessian(loss(batch), params)`."
            raise InputError(explain(rule, f"It is a `{type(build).__name__}`.", cure))
        self._batches = tuple(batches)
        if not self._batches:
            rule, cure = "`batches` must hold at least one batch.", "An iterator that was used before is empty."
            raise InputError(explain(rule, "It is empty.", cure))
        self.passes = len(self._batches)
        self._build = build
        self._replay = ReplayedRandomness()
        with self._replay():
            first = self._built(self._batches[0])
        super().__init__(first.params, damping=damping)
        self._half_precision = first.half_precision

    def gradient(self) -> Vector:
        return self._mean(lambda operator: operator.gradient().tensors, self.params)

    def _multiply(self, v: Vector, /) -> Vector:
        return self._mean(lambda operator: (operator @ v).tensors, self.params)

    def cross(self, x: Vector, aux_params: Sequence[Tensor], /) -> tuple[Tensor | None, ...]:
        hit = [False] * len(aux_params)

        def of(operator: LossCurvature) -> tuple[Tensor | None, ...]:
            found = operator.cross(x, aux_params)
            hit[:] = [h or g is not None for h, g in zip(hit, found, strict=True)]
            return found

        mean = self._mean(of, aux_params)
        return tuple(g if h else None for g, h in zip(mean, hit, strict=True))

    @property
    def half_precision(self) -> bool:
        """See :class:`CurvatureOperator`."""
        return self._half_precision

    def _mean(self, of: Callable[[LossCurvature], tuple[Tensor | None, ...]], like: Sequence[Tensor]) -> Vector:
        total = Vector(t.detach() for t in like).zeros_like()
        with self._replay():
            for batch in self._batches:
                total.add_(filled(of(self._operator(batch)), like), scale=1.0)
        return total * (1.0 / self.passes)

    def _operator(self, batch: Batch) -> LossCurvature:
        operator = self._built(batch)
        if [id(p) for p in operator.params] != [id(p) for p in self.params]:
            rule = "Every batch's operator must act on the same parameters."
            finding = f"One acts on {len(operator.params)} tensors, the first batch's on {len(self.params)}."
            cure = "Use batches that reach the same parameters, or pass fewer `params`."
            raise InputError(explain(rule, finding, cure))
        return operator

    def _built(self, batch: Batch) -> LossCurvature:
        operator = self._build(batch)
        if not isinstance(cast("object", operator), LossCurvature):
            rule, cure = "`build` must return a curvature operator.", "Return `Hessian(loss, params)`, not the loss."
            raise InputError(explain(rule, f"It returned a `{type(operator).__name__}`.", cure))
        return operator
