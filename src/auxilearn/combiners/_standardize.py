"""Losses on a common scale, in front of any combiner."""

from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor

from auxilearn import _ranks
from auxilearn._checks import explain, one_of, positive
from auxilearn.combiners._base import LossCombiner
from auxilearn.combiners._losses import mean_per_loss, per_loss
from auxilearn.errors import InputError


@final
class Standardized(LossCombiner):
    r"""Divide each loss by its scale before combining.

    .. math:: L_T = g\left(\frac{\ell_1}{s_1}, \dots, \frac{\ell_K}{s_K}\right)

    Without it, a loss measured in large units drowns the others, and one learning rate for :math:`\varphi` cannot suit
    all.

    The scale is a constant of the derivative. It is kept in a buffer, saved with ``state_dict``, and updated by calls
    in training mode only. Outer passes, which differentiate the combined loss with respect to :math:`\varphi`, need not
    count as batches: compute them after ``combiner.eval()`` (no other combiner behaves differently there), or inside
    ``auxilearn.safety.second_order(combiner)``, which leaves all buffers as they were. With ``scale=`` and
    ``mode="initial"`` nothing is ever updated, which is also what ``torch.func`` transforms and several processes need:
    ranks that share a problem must share the scale, and one that each would find by itself is refused.

    Args:
        combiner: :math:`g`. A main loss that it adds is divided, too.
        mode: ``"initial"`` keeps the mean absolute value of each loss in the first batch: how the losses shrink later
            stays visible. ``"running"`` follows it, so that all losses stay near 1; a loss that has almost
            vanished is then blown up again.
        scale: The scales, one number or one for each loss, if known; ``"running"`` goes on from there.
        momentum: How much of the running scale each batch keeps. The first :math:`1/(1 - \text{momentum})` batches are
            averaged evenly; a given ``scale`` counts as one.
        minimum: The smallest scale that ``"running"`` divides by, in units of the losses.
        check_finite: See :class:`LossCombiner`.

    Raises:
        InputError: If an argument is out of range.

    Example:
        >>> from auxilearn.combiners import Linear
        >>> combiner = Standardized(Linear(2))
        >>> combiner(torch.tensor([[1.0, 200.0], [3.0, 400.0]]))
        tensor(2., grad_fn=<SumBackward0>)
        >>> combiner.scale
        tensor([  2., 300.])

    References:
        Chen et al., "GradNorm", ICML 2018, measures the progress of each loss by the same ratio to its
        initial value.
    """

    scale: Tensor
    batches: Tensor

    def __init__(
        self,
        combiner: LossCombiner,
        *,
        mode: Literal["initial", "running"] = "initial",
        scale: float | Sequence[float] | Tensor | None = None,
        momentum: float = 0.99,
        minimum: float = 1e-8,
        check_finite: bool = True,
    ) -> None:
        _check_combiner(combiner)
        super().__init__(combiner.num_losses, check_finite=check_finite, ndims=combiner.ndims)
        one_of("mode", mode, ("initial", "running"))
        positive("minimum", minimum)
        if not 0 <= momentum < 1:
            rule, cure = "`momentum` must be at least 0 and below 1.", "Try 0.99."
            raise InputError(explain(rule, f"It is {momentum}.", cure))
        self.combiner = combiner
        self.mode = mode
        self.momentum = momentum
        self.minimum = minimum
        self.fixed = scale is not None and mode == "initial"
        given = per_loss("scale", 1.0 if scale is None else scale, combiner.num_losses)
        if scale is not None:
            _check_scale("`scale`", given, "Give the size that the loss has, or leave the loss out.")
        self.register_buffer("scale", given)
        # On the device, like BatchNorm's counter: borrowed, restored and saved together with the scale.
        self.register_buffer("batches", torch.tensor(0 if scale is None else 1))

    def _combine(self, losses: Tensor, /) -> Tensor:
        if self.training and (self.mode == "running" or not self._known()):
            self._observe(losses)
        elif not self.training:
            self._check_known()
        return self.combiner(losses / _along_losses(self._divisor(), losses))

    def _observe(self, losses: Tensor) -> None:
        _ranks.refuse_undeclared("The scale that `Standardized` finds", "Pass `scale=`, the mean over all ranks.")
        with torch.no_grad():
            size = mean_per_loss(losses.abs())  # (K,)
            if self.mode == "initial":
                cure = "Pass `scale=`, or use `mode='running'`, which waits until the loss is there."
                _check_scale("The mean absolute value of each loss in the first batch", size, cure)
            # An overflow, which a GradScaler would skip, is not remembered.
            size = torch.where(size.isfinite(), size, self.scale)
            keep = (self.batches / (self.batches + 1)).clamp(max=self.momentum)  # 0, 1/2, 2/3 … momentum
            self.scale.copy_(size + keep * (self.scale - size))
            self.batches.add_(1)

    def _divisor(self) -> Tensor:
        # A new tensor each time: graphs of earlier batches keep theirs when the buffer is updated in place.
        if self.mode == "initial":
            return self.scale.clone()
        return self.scale.clamp(min=max(self.minimum, torch.finfo(self.scale.dtype).tiny))

    def _known(self) -> bool:
        # Looking into a tensor waits for the device, and cannot be done inside `torch.vmap`.
        return self.fixed or bool(self.batches)

    def _check_known(self) -> None:
        if not self._known():
            rule = "`Standardized` must have seen the scale of the losses before it is evaluated."
            cure = "Call it on a batch in training mode first, load a `state_dict`, or pass `scale=`."
            raise InputError(explain(rule, "It has seen no batch.", cure))

    def weights_at(self, losses: Tensor, /) -> Tensor:
        """Say how much each loss counts at present, in its own units; see :meth:`LossCombiner.weights_at`.

        Args:
            losses: As for a call. They do not change the scale, which must be known.

        Returns:
            One number for each loss, ``(K,)``, without a graph.
        """
        self._check_known()
        scale = self._divisor()
        return self.combiner.weights_at(losses / _along_losses(scale, losses)) / scale

    def extra_repr(self) -> str:
        """Describe the wrapper in one line.

        Returns:
            Its settings.
        """
        return f"mode={self.mode!r}, momentum={self.momentum}, minimum={self.minimum}"


def _along_losses(scale: Tensor, losses: Tensor) -> Tensor:
    return scale.view(-1, *(1,) * (losses.ndim - 2))  # (K,), or (K, 1, 1) for images


def _check_combiner(combiner: object) -> None:
    if not isinstance(combiner, LossCombiner):
        rule = "`combiner` must be a `LossCombiner`."
        cure = "Wrap one, e.g. `Standardized(Linear(3))`; subclass `LossCombiner` for your own."
        raise InputError(explain(rule, f"It is a `{type(combiner).__name__}`.", cure))


def _check_scale(what: str, scale: Tensor, cure: str) -> None:
    wrong = ~(scale.isfinite() & (scale > 0))
    if wrong.any():
        k = int(wrong.nonzero()[0, 0])
        finding = f"For loss {k} it is {scale[k].item():g}."
        raise InputError(explain(f"{what} must be above 0, to divide by it.", finding, cure))
