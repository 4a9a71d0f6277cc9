"""Which auxiliary losses help: the slope of the outer loss along each one's Newton step, with its error."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast, final

import torch
from torch import Tensor

from auxilearn import _checks
from auxilearn._autograd import Optional, filled, gradients, reached
from auxilearn._checks import explain
from auxilearn._vectors import Vector
from auxilearn.curvature import Hessian, LossCurvature
from auxilearn.distributed._ranks import Group, Ranks, agreement, ranks_of
from auxilearn.distributed._static_graph import refuse_early_static_graph
from auxilearn.distributed._system import shared_system
from auxilearn.errors import InputError, SolverError
from auxilearn.solvers import LinearSolver, Neumann
from auxilearn.solvers._base import checked, memory_kept

__all__ = ["Usefulness", "usefulness"]

Losses = tuple[Tensor | LossCurvature, Tensor, Tensor | Sequence[Tensor]]


@final
@dataclass(frozen=True)
class Usefulness:
    """How much each auxiliary loss lowers the outer loss, per unit of its weight.

    Attributes:
        score: The mean over batches of the score of each loss, shape (K,). Positive helps, negative harms.
        standard_error: Its standard error over batches, shape (K,); NaN for a single batch.
        samples: The score of each batch and loss, shape (batches, K).
    """

    score: Tensor
    standard_error: Tensor
    samples: Tensor

    @property
    def t(self) -> Tensor:
        """The score in units of its standard error, shape (K,)."""
        return self.score / self.standard_error


@torch.inference_mode(False)  # as for `hypergradient`
def usefulness(
    batches: Iterable[Losses],
    *,
    params: Iterable[Tensor],
    solver: LinearSolver | None = None,
    damping: float = 0.0,
    group: Group = None,
) -> Usefulness:
    r"""Score auxiliary losses by what their Newton step would do to the outer loss.

    .. math:: u_k = \langle \partial_W L_A,\; (\partial_W^2 L_T)^{-1}\, \partial_W \ell_k \rangle
        = -\frac{d L_A}{d \varepsilon}\bigg|_{L_T + \varepsilon \ell_k}

    To first order, raising the weight of :math:`\ell_k` by :math:`\varepsilon` changes the outer loss by
    :math:`-\varepsilon u_k`. A plain gradient cosine leaves :math:`H^{-1}` out and can have the wrong sign. All K
    scores of a batch cost one solve and two reverse passes.

    Args:
        batches: For each batch the train loss (or its curvature), the outer loss and the auxiliary losses, all
            computed with the present weights: a tensor of shape (K,) or K scalars. Read one at a time: a generator
            keeps one graph in memory.
        params: The weights; an iterable.
        solver: The method for the linear system; by default ``Neumann()``.
        damping: Added to the Hessian's diagonal.
        group: The ranks whose mean losses are meant, as for :func:`~auxilearn.hypergradient`; each needs as many
            batches as the others.

    Returns:
        Scores with standard errors over batches.

    Raises:
        InputError: If there is no batch, the number of losses changes, a loss breaks a rule, or there are several ranks
            and no ``group``.
        SolverError: If a solve fails.

    Example:
        >>> import torch
        >>> w = torch.zeros(1, requires_grad=True)
        >>> def losses(target):
        ...     towards, away = ((w - 1) ** 2).sum(), ((w + 1) ** 2).sum()
        ...     return (w**2).sum() / 2, ((w - target) ** 2).sum(), torch.stack([towards, away])
        >>> scores = usefulness((losses(t) for t in [0.5, 1.5]), params=[w])
        >>> scores.score.tolist(), scores.standard_error.tolist()
        ([4.0, -4.0], [2.0, 2.0])

    References:
        Koh and Liang, "Understanding black-box predictions via influence functions", ICML 2017, for the same quantity
        of a sample.
    """
    weights = _checks.tensors("params", params)
    solver = Neumann() if solver is None else checked(solver)
    ranks = ranks_of(group, weights)
    rows: list[Tensor] = []
    with memory_kept(solver), agreement(ranks):
        for batch in batches if ranks is None else _in_step(batches, ranks):
            rows.append(_scores(batch, weights, solver, damping, ranks))
            if len(rows[-1]) != len(rows[0]):
                rule = "Every batch must have the same auxiliary losses."
                finding = f"There are {len(rows[0])}, then {len(rows[-1])}."
                raise InputError(explain(rule, finding, "Give a loss that is absent from a batch the value 0."))
    if not rows:
        rule, cure = "`batches` must hold at least one batch.", "A generator that was used before is empty."
        raise InputError(explain(rule, "It is empty.", cure))
    samples = torch.stack(rows)
    error = samples.std(dim=0) / len(rows) ** 0.5 if len(rows) > 1 else torch.full_like(samples[0], torch.nan)
    return Usefulness(samples.mean(dim=0), error, samples)


def _in_step(batches: Iterable[Losses], ranks: Ranks) -> Iterator[Losses]:
    # A rank without a batch would leave the others waiting for its products.
    mine = iter(batches)
    while True:
        batch = ranks.together(lambda: next(mine, None))
        _, (some, ended) = ranks.mean((), (), (batch is not None, batch is None))
        if some and ended:
            rule, cure = "All ranks must have the same number of batches.", "Drop the last ones, or give fewer."
            raise InputError(explain(rule, "Some have no more, others have.", cure))
        if batch is None:
            return
        yield batch


def _scores(
    batch: Losses, weights: Sequence[Tensor], solver: LinearSolver, damping: float, ranks: Ranks | None
) -> Tensor:
    def build() -> tuple[LossCurvature, Optional]:
        train_loss, val_loss, aux_losses = _triple(batch)
        for loss in (train_loss, val_loss, _stacked(aux_losses)):
            if isinstance(loss, Tensor):
                refuse_early_static_graph(loss)
        own = damping if ranks is None else 0.0
        H = train_loss if isinstance(train_loss, LossCurvature) else Hessian(train_loss, weights, damping=own)
        params = H.params if ranks is None else weights
        return H, gradients(_checks.scalar_loss("val_loss", val_loss), params)

    pair = build() if ranks is None else shared_system(ranks, build, batch[:2], weights, damping=damping)[:2]
    H, outer = pair[0], tuple(pair[1] or (None,) * len(pair[0].params))
    reached("val_loss", H.params, outer)
    v = filled(outer, H.params)
    solution = solver.solve(H, v)
    if solution.report.failed:
        finding, cure = f"It ended as `{solution.report.status.value}`.", "Use damping, or more data a batch."
        raise SolverError(explain("A score needs a solve that converges.", finding, cure))
    if ranks is None:
        scores = _along(batch[2], H.params, solution.x)
    else:
        mine = ranks.together(lambda: _along(batch[2], H.params, solution.x))
        ((scores,), _) = ranks.mean([mine], [mine])
    H.release()
    return scores


def _triple(batch: Losses) -> Losses:
    if not isinstance(cast("object", batch), (tuple, list)) or len(batch) != 3:
        rule = "`batches` must hold triples: the train loss, the outer loss and the auxiliary losses."
        raise InputError(explain(rule, "One is something else.", "Yield `(train_loss, val_loss, aux_losses)`."))
    return batch


def _along(losses: Tensor | Sequence[Tensor], params: Sequence[Tensor], x: Vector) -> Tensor:
    # ⟨∂_W ℓ_k, x⟩ for all k is the Jacobian times x: two reverse passes instead of K.
    stacked = _stacked(losses)
    if not bool(stacked.isfinite().all()):
        bad = [k for k, loss in enumerate(stacked) if not bool(loss.isfinite())]
        raise InputError(explain("`aux_losses` must be finite.", f"Those with index {bad} are not.", "Mend the loss."))
    if not stacked.requires_grad:
        return torch.zeros_like(stacked)
    dual = torch.zeros_like(stacked, requires_grad=True)
    pullback = gradients(stacked, params, (dual,), create_graph=True)  # u ↦ Jᵀu
    pairs = [(p, c) for p, c in zip(pullback, x, strict=True) if p is not None]
    if not pairs:
        return torch.zeros_like(stacked.detach())
    (scores,) = filled(gradients([p for p, _ in pairs], (dual,), [c for _, c in pairs]), (dual,))  # Jx
    return scores.detach()


def _stacked(losses: Tensor | Sequence[Tensor]) -> Tensor:
    rule, cure = "`aux_losses` must be K scalars.", "Reduce over the batch, e.g. with `.mean(0)`."
    if not isinstance(losses, Tensor):
        several = cast("list[Tensor]", list(losses) if isinstance(cast("object", losses), Iterable) else [losses])
        found = [tuple(t.shape) if isinstance(cast("object", t), Tensor) else type(t).__name__ for t in several]
        if any(isinstance(shape, str) or math.prod(shape) != 1 for shape in found):
            raise InputError(explain(rule, f"They are {found}.", cure))
        losses = torch.stack([t.reshape(()) for t in several]) if several else torch.empty(0)
    if losses.dim() != 1 or not len(losses):
        raise InputError(explain(rule, f"The shape is {tuple(losses.shape)}.", cure))
    return losses
