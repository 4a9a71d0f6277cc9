"""The implicit system of ranks that share a problem, from what each of them knows."""

from collections.abc import Callable, Sequence

from torch import Tensor

from auxilearn import _checks
from auxilearn._autograd import Optional
from auxilearn._vectors import Vector, is_distributed
from auxilearn.curvature import LossCurvature, Streamed
from auxilearn.distributed._averaged import Averaged
from auxilearn.distributed._ranks import Ranks


def shared_system(
    ranks: Ranks,
    build: Callable[[], tuple[LossCurvature, Optional]],
    losses: Sequence[object],
    weights: Sequence[Tensor],
    aux: Sequence[Tensor] = (),
    *,
    damping: float = 0.0,
    loss_scale: float = 1.0,
) -> tuple[LossCurvature, Vector | None, tuple[Tensor, ...]]:
    r"""Average :math:`\partial_W L_A` and :math:`\partial_\varphi L_A` over the ranks, in one message.

    Args:
        ranks: The ranks.
        build: Makes this rank's operator, without damping, and the gradient of its outer loss by ``weights`` and
            ``aux``; it may fail.
        losses: The losses at hand; what is no tensor is passed over.
        weights: The weights :math:`W`.
        aux: The auxiliary parameters :math:`\varphi`.
        damping: Added to the diagonal of the mean.
        loss_scale: Under one above 1, losses may overflow.

    Returns:
        The operator on those weights that reach the train loss of any rank, ∂_W L_A (None if no rank's outer loss
        depends on them), and ∂_φ L_A.

    Raises:
        InputError: If a loss is not finite, ``build`` failed on another rank, or the ranks' parameters do not fit
            together.
    """
    everything = (*weights, *aux)
    passes = next((loss.passes for loss in losses if isinstance(loss, Streamed)), 1)
    if any(map(is_distributed, everything)):
        # Gradients by sharded weights are collective themselves: a rank that fails must do so before.
        given, finite = [loss for loss in losses if isinstance(loss, Tensor)], loss_scale <= 1.0
        ranks.together(lambda: [_checks.scalar_loss("loss", loss, finite=finite) for loss in given], passes=passes)
    inner, slopes = ranks.together(build, replicated=everything)
    reached = {id(p) for p in inner.params}
    flags = [id(p) in reached for p in weights] + [s is not None for s in slopes[: len(weights)]]
    mean, anywhere = ranks.mean(slopes, everything, flags)
    rows = [i for i, reaches in enumerate(anywhere[: len(weights)]) if reaches]
    curvature = Averaged(inner, [weights[i] for i in rows], ranks, damping=damping)
    v = Vector(mean[i] for i in rows) if any(anywhere[len(weights) + i] for i in rows) else None
    return curvature, v, mean[len(weights) :]
