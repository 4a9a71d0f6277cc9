"""The implicit function theorem: how the outer loss responds to φ through the trained weights."""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, final

import torch
from torch import Tensor

from auxilearn import _checks
from auxilearn._autograd import Optional, filled, gradients
from auxilearn._checks import explain
from auxilearn._vectors import Vector
from auxilearn.curvature import Hessian, LossCurvature
from auxilearn.distributed._ranks import Group, Ranks, agreement, ranks_of
from auxilearn.distributed._static_graph import refuse_early_static_graph
from auxilearn.distributed._system import shared_system
from auxilearn.errors import InputError, SolverError, SolverWarning
from auxilearn.solvers import LinearSolver, Neumann, SolveReport, Status
from auxilearn.solvers._base import checked, memory_kept

__all__ = ["Hypergradient", "OnFailure", "hypergradient"]

OnFailure = Literal["warn", "raise", "skip"]


@final
@dataclass(frozen=True)
class Hypergradient:
    """The derivative of the outer loss with respect to the auxiliary parameters.

    Attributes:
        grads: One tensor for each trainable auxiliary parameter, of its shape; zeros if they came out NaN or infinite.
        report: The report of the linear solve.
        finite: Whether everything came out finite.
        usable: Whether ``grads`` should be applied: False if they are not finite, or the solve failed under
            ``on_failure="skip"``.
        train_grads: If ``keep_gradient`` asked for it, each weight that reaches the train loss, with its gradient.
    """

    grads: tuple[Tensor, ...]
    report: SolveReport
    finite: bool = True
    usable: bool = True
    train_grads: tuple[tuple[Tensor, Tensor], ...] = ()


# It works under `torch.no_grad()` and `torch.inference_mode()`, too, as long as the losses have their graphs.
@torch.inference_mode(False)
def hypergradient(
    train_loss: Tensor | LossCurvature,
    val_loss: Tensor | Iterable[Tensor],
    *,
    params: Iterable[Tensor],
    aux_params: Iterable[Tensor],
    solver: LinearSolver | None = None,
    damping: float = 0.0,
    on_failure: OnFailure = "warn",
    loss_scale: float = 1.0,
    keep_gradient: bool = False,
    group: Group = None,
) -> Hypergradient:
    r"""Differentiate an outer loss with respect to parameters that act on it through the trained weights.

    .. math:: \frac{d L_A}{d\varphi} = \partial_\varphi L_A
        - (\partial_\varphi \partial_W L_T)^\top\, (\partial_W^2 L_T)^{-1}\, \partial_W L_A

    It holds where :math:`\partial_W L_T = 0`; during training it is the usual approximation. Nothing is written: no
    ``.grad``, no parameter, no buffer. A tensor in both ``params`` and ``aux_params`` belongs to the outer level: the
    inner problem is then solved over the other weights.

    Args:
        train_loss: The inner loss :math:`L_T(W, \varphi)`, a scalar with its graph; or a
            :class:`~auxilearn.curvature.LossCurvature`, for another curvature or for several streamed batches.
        val_loss: The outer loss :math:`L_A`, a scalar with its graph; or an iterable of such, whose mean is meant, and
            which is read one at a time, so that a generator keeps one graph in memory. The losses of a list may share
            their graphs, those of a generator may not.
        params: The weights :math:`W`, any iterable. Frozen ones, and those that do not reach the train loss, are left
            out. Not read if ``train_loss`` is an operator, which has its own.
        aux_params: The auxiliary parameters :math:`\varphi`, any iterable.
        solver: The method for the linear system; by default ``Neumann()``: three terms with a guarded step.
        damping: :math:`\delta \ge 0`, added to the Hessian's diagonal; give it to the operator if ``train_loss`` is
            one.
        on_failure: What to do if the solve diverges or anything is not finite: warn with
            :class:`~auxilearn.errors.SolverWarning`, raise :class:`~auxilearn.errors.SolverError`, or say so in the
            result only. Gradients that are not finite are never returned.
        loss_scale: A factor for both losses while they are differentiated, divided out of the result; see
            :class:`~auxilearn.curvature.Hessian`. An operator has a ``loss_scale`` of its own, where it is built. Under
            a scale above 1 an overflow is no failure, but the sign for whoever chose the scale to lower it: look at
            ``finite``.
        keep_gradient: Whether to return the train loss's gradient in the weights as well, which the curvature has
            computed in any case (but for :class:`~auxilearn.curvature.Streamed`, which computes it anew).
        group: The ranks whose mean losses are meant, e.g. ``torch.distributed.group.WORLD``; all of them must call
            this, and all get the same hypergradient. ``"local"``: this rank has a problem of its own. Needed only
            where there are several ranks; see :mod:`auxilearn.distributed`.

    Returns:
        The hypergradient with the solver's report.

    Raises:
        InputError: If an argument breaks a rule, e.g. a loss that does not reach the parameters; if there are several
            ranks and no ``group``; or if an argument of another rank breaks a rule.
        SecondOrderError: If an operator has no second derivative; the message names it and the cure.
        SolverError: If the solve fails and ``on_failure="raise"``.

    Example:
        The minimiser of :math:`\tfrac12(w - \varphi)^2` is :math:`\varphi`, so :math:`\tfrac12 w^2` responds with
        slope :math:`\varphi`:

        >>> import torch
        >>> from auxilearn import hypergradient
        >>> phi = torch.tensor([3.0], requires_grad=True)
        >>> w = torch.tensor([3.0], requires_grad=True)
        >>> train_loss, val_loss = ((w - phi) ** 2).sum() / 2, (w**2).sum() / 2
        >>> hypergradient(train_loss, val_loss, params=[w], aux_params=[phi]).grads[0].item()
        3.0

    References:
        Navon et al., "Auxiliary learning by implicit differentiation", ICLR 2021, Eqs. (4)-(5), which leave the direct
        term :math:`\partial_\varphi L_A` out, for it is zero there.
    """
    _checks.one_of("on_failure", on_failure, ("warn", "raise", "skip"))
    aux = _checks.tensors("aux_params", aux_params)
    solver = Neumann() if solver is None else checked(solver)
    _checks.positive("loss_scale", loss_scale)
    if isinstance(train_loss, LossCurvature) and damping:
        rule = "`damping` belongs to the operator."
        finding = "`train_loss` is an operator, and it was given besides."
        raise InputError(explain(rule, finding, "Pass it where the operator is built."))
    weights = _weights(train_loss, params, aux)
    ranks = ranks_of(group, (*weights, *aux))
    with memory_kept(solver), agreement(ranks):
        curvature, v, direct = _system(train_loss, val_loss, weights, aux, damping, loss_scale, ranks)
        solution = solver.solve(curvature, v)  # (∂²_W L_T)⁻¹ ∂_W L_A
        mixed = curvature.cross(solution.x, aux)  # (∂_φ ∂_W L_T)ᵀ x
        train_grads = tuple(zip(curvature.params, curvature.gradient(), strict=True)) if keep_gradient else ()
        curvature.release()
        # Of x = 0 a curvature may say None without looking.
        if all(m is None for m in mixed) and float(solution.x.norm()) > 0.0:
            rule = "`aux_params` must change how the train loss depends on the parameters."
            finding = "None of its tensors does."
            cure = "Compute `train_loss` with the auxiliary network, undetached. Are the two losses in order?"
            raise InputError(explain(rule, finding, cure))
        grads = tuple(_difference(d, m, p) for d, m, p in zip(direct, mixed, aux, strict=True))
        judged = _judged(grads, solution.report, on_failure, may_overflow=loss_scale > 1.0)
        return replace(judged, train_grads=train_grads) if keep_gradient else judged


def _weights(
    train_loss: Tensor | LossCurvature, params: Iterable[Tensor], aux: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    shared = {id(p) for p in aux}
    if isinstance(train_loss, LossCurvature):
        if any(id(p) in shared for p in train_loss.params):
            rule, finding = "An operator must not act on auxiliary parameters.", "It does on some of `aux_params`."
            raise InputError(explain(rule, finding, "Leave them out where the operator is built."))
        return train_loss.params
    weights = _checks.tensors("params", params)
    inner = tuple(p for p in weights if id(p) not in shared)
    if not inner:
        rule, finding = "Some weights must belong to the inner level.", f"All {len(weights)} are in `aux_params`, too."
        raise InputError(explain(rule, finding, "Did you pass one network's parameters twice?"))
    return inner


def _system(
    train_loss: Tensor | LossCurvature,
    val_loss: Tensor | Iterable[Tensor],
    weights: tuple[Tensor, ...],
    aux: tuple[Tensor, ...],
    damping: float,
    loss_scale: float,
    ranks: Ranks | None,
) -> tuple[LossCurvature, Vector, Optional]:
    # ∂²_W L_T, ∂_W L_A and ∂_φ L_A: of this process, or the means over the ranks.
    if ranks is None:
        curvature = _curvature(train_loss, weights, damping, loss_scale)
        return curvature, *_outer(val_loss, curvature.params, aux, loss_scale)

    def build() -> tuple[LossCurvature, Optional]:
        return _curvature(train_loss, weights, 0.0, loss_scale), _slopes(val_loss, (*weights, *aux), loss_scale)

    losses = (train_loss, *val_loss) if isinstance(val_loss, Sequence) else (train_loss, val_loss)
    curvature, v, direct = shared_system(ranks, build, losses, weights, aux, damping=damping, loss_scale=loss_scale)
    if v is None:
        raise InputError(_unreached(len(curvature.params)))
    return curvature, v, direct


def _curvature(
    train_loss: Tensor | LossCurvature, weights: tuple[Tensor, ...], damping: float, loss_scale: float
) -> LossCurvature:
    if isinstance(train_loss, LossCurvature):
        return train_loss
    refuse_early_static_graph(train_loss)
    return Hessian(train_loss, weights, damping=damping, loss_scale=loss_scale)


def _outer(
    val_loss: Tensor | Iterable[Tensor], params: Sequence[Tensor], aux: Sequence[Tensor], loss_scale: float
) -> tuple[Vector, Optional]:
    total = _slopes(val_loss, (*params, *aux), loss_scale)
    if not any(g is not None for g in total[: len(params)]):
        raise InputError(_unreached(len(params)))
    return filled(total[: len(params)], params), total[len(params) :]


def _slopes(val_loss: Tensor | Iterable[Tensor], inputs: Sequence[Tensor], loss_scale: float) -> Optional:
    # One pass gives both ∂_W L_A and ∂_φ L_A. A loss or a list of them keeps its graphs: the train loss may share them.
    several = isinstance(cast("object", val_loss), Iterable) and not isinstance(val_loss, Tensor)
    losses = cast("Iterable[Tensor]", val_loss if several else [val_loss])
    retain_graph = isinstance(val_loss, (Tensor, Sequence))
    total: Optional = (None,) * len(inputs)
    count = 0
    for loss in losses:
        scaled = _checks.scaled_loss("val_loss", loss, loss_scale)
        refuse_early_static_graph(loss)
        found = gradients(scaled, inputs, retain_graph=retain_graph)
        total = tuple(b if a is None else a if b is None else a + b for a, b in zip(total, found, strict=True))
        count += 1
    if not count:
        raise InputError(_unreached(0))
    factor = 1.0 / (count * loss_scale)
    return total if factor == 1.0 else tuple(None if g is None else g * factor for g in total)


def _unreached(weights: int) -> str:
    rule = "`val_loss` must depend on the parameters that reach the train loss."
    finding = f"It depends on none of the {weights}." if weights else "There was none to read."
    return explain(rule, finding, "Compute it with the model that is trained, without detaching.")


def _difference(direct: Tensor | None, mixed: Tensor | None, like: Tensor) -> Tensor:
    if direct is None:
        return torch.zeros_like(like) if mixed is None else -mixed
    return direct if mixed is None else direct - mixed


def _judged(
    grads: tuple[Tensor, ...], report: SolveReport, on_failure: OnFailure, *, may_overflow: bool
) -> Hypergradient:
    finite = report.status is not Status.NON_FINITE and math.isfinite(float(Vector(grads).norm()))
    if finite and not report.failed:
        return Hypergradient(grads, report)
    if not finite:
        grads = tuple(torch.zeros_like(g) for g in grads)
    usable = finite and on_failure != "skip"
    if finite or not may_overflow:
        finding = f"The solve ended as `{report.status.value}`" + ("." if finite else ", and the result is not finite.")
        cure = 'Use `Neumann(alpha="auto")`, a smaller `alpha` or learning rate, or pass `Hessian(..., damping=...)`.'
        message = explain("A hypergradient needs a solve that converges.", finding, cure)
        if on_failure == "raise":
            raise SolverError(message)
        if on_failure == "warn":
            warnings.warn(message, SolverWarning, stacklevel=4)  # the decorator of `hypergradient` counts, too
    return Hypergradient(grads, report, finite, usable)
