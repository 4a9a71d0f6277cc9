"""The drop-in optimizer: any torch optimizer, fed with hypergradients."""

import math
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, cast, final

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import LBFGS, Optimizer, SparseAdam

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn._vectors import Vector, is_distributed
from auxilearn.curvature import LossCurvature
from auxilearn.distributed._ranks import Group, agreement, ranks_of
from auxilearn.errors import InputError
from auxilearn.implicit import Hypergradient, OnFailure, hypergradient
from auxilearn.solvers import LinearSolver, Neumann, SolveReport
from auxilearn.solvers._base import checked, memory_kept

__all__ = ["MetaOptimizer"]


@final
class MetaOptimizer:
    r"""Step auxiliary parameters along their hypergradient with any optimizer of ``torch.optim``.

    It wraps the optimizer of the auxiliary parameters :math:`\varphi`; the weights :math:`W` are trained by their own
    optimizer as before. :meth:`step` computes :func:`~auxilearn.hypergradient`, clips it, and lets the wrapped
    optimizer use it. Learning-rate schedulers take the wrapped optimizer, :attr:`meta_optimizer`.

    Args:
        meta_optimizer: The optimizer of the auxiliary parameters. ``LBFGS`` needs ``max_iter=1`` and no line search,
            for it cannot ask again; ``SparseAdam`` takes no dense gradients.
        hpo_lr: If given, the fixed Neumann step of the original package, whose sum it repeats,
            :math:`\sum_{j \le J} (I - \alpha H)^j v` without the leading :math:`\alpha`; kept for old code, and
            not to be combined with ``solver``. By default the step is estimated and the sum is scaled.
        truncate_iter: :math:`J`, the number of Neumann terms after the first; not read if ``solver`` is given.
        max_grad_norm: The norm to which the hypergradient is clipped for the step; None does not clip.
        solver: Another method for the linear system; ``hpo_lr`` must then be left out.
        on_failure: What a failed solve does: ``"warn"`` warns and steps if the result is finite, ``"raise"`` raises,
            ``"skip"`` leaves the auxiliary parameters alone; a result that is not finite never reaches them.
        group: The ranks whose mean losses are meant, e.g. ``torch.distributed.group.WORLD``, or ``"local"``. All of
            them must call :meth:`step`, and take the same step. Needed only where there are several ranks; see
            :mod:`auxilearn.distributed`.

    Attributes:
        meta_optimizer: The wrapped optimizer.
        solver: The method for the linear system.
        max_grad_norm: See above.
        on_failure: See above.
        group: See above.
        report: The solver's report of the last step; None before the first.
        step_was_skipped: Whether the last step left the auxiliary parameters alone: an overflow under a scaler, or a
            failed solve under ``on_failure="skip"``.

    Raises:
        InputError: If ``meta_optimizer`` is no optimizer, or the settings contradict each other.

    Example:
        >>> import torch
        >>> from auxilearn.optim import MetaOptimizer
        >>> w = torch.nn.Parameter(torch.zeros(1))
        >>> phi = torch.nn.Parameter(torch.zeros(1))
        >>> primary = torch.optim.SGD([w], lr=0.5)
        >>> aux = MetaOptimizer(torch.optim.SGD([phi], lr=0.5))
        >>> for _ in range(20):
        ...     primary.zero_grad()
        ...     ((w - phi) ** 2).sum().backward()
        ...     primary.step()
        ...     train_loss, val_loss = ((w - phi) ** 2).sum(), ((w - 1) ** 2).sum() / 2
        ...     aux.step(train_loss, val_loss, [w], [phi])
        >>> round(phi.item(), 3)
        1.0

        In float16 each level has a scaler, or both share one. Losses are passed unscaled:

        >>> scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
        >>> with torch.autocast("cpu", torch.float16):
        ...     train_loss, val_loss = torch.nn.functional.linear(w, phi[:, None]).sum(), (w * w).half().sum()
        >>> for _ in range(2):
        ...     aux.step(train_loss + (w * w).sum(), val_loss, [w], [phi], grad_scaler=scaler)
        ...     scaler.update()
        ...     aux.step_was_skipped, scaler.get_scale() < 2.0**24
        (True, True)
        (True, True)

    References:
        Navon et al., "Auxiliary learning by implicit differentiation", ICLR 2021, Alg. 1 and 2.
    """

    def __init__(
        self,
        meta_optimizer: Optimizer,
        hpo_lr: float | None = None,
        truncate_iter: int = 3,
        max_grad_norm: float | None = 10,
        *,
        solver: LinearSolver | None = None,
        on_failure: OnFailure = "warn",
        group: Group = None,
    ) -> None:
        if not isinstance(cast("object", meta_optimizer), Optimizer):
            rule, cure = "`meta_optimizer` must be a `torch.optim.Optimizer`.", "E.g. `Adam(phi, lr=1e-3)`."
            raise InputError(explain(rule, f"It is a `{type(meta_optimizer).__name__}`.", cure))
        if solver is not None and hpo_lr is not None:
            rule = "`hpo_lr` and `solver` are two ways to say the same."
            raise InputError(explain(rule, "Both were given.", "Leave `hpo_lr` out: `Neumann(alpha=...)` has it."))
        _refuse_unfit(meta_optimizer)
        _checks.count("truncate_iter", truncate_iter, 0)
        if max_grad_norm is not None:
            _checks.positive("max_grad_norm", max_grad_norm)
        _checks.one_of("on_failure", on_failure, ("warn", "raise", "skip"))
        if hpo_lr is not None:
            _checks.positive("hpo_lr", hpo_lr)
            solver = Neumann(alpha=hpo_lr, terms=truncate_iter, scaled=False)
        self.meta_optimizer = meta_optimizer
        self.solver: LinearSolver = Neumann(terms=truncate_iter) if solver is None else checked(solver)
        self.max_grad_norm = max_grad_norm
        self.on_failure: OnFailure = on_failure
        self.group: Group = group
        self.report: SolveReport | None = None
        self.step_was_skipped = False

    @torch.inference_mode(False)
    def step(
        self,
        train_loss: Tensor | LossCurvature,
        val_loss: Tensor | Iterable[Tensor],
        parameters: Iterable[Tensor],
        aux_params: Iterable[Tensor],
        return_grads: bool = False,
        *,
        grad_scaler: torch.amp.GradScaler | None = None,
        keep_gradient: bool = False,
    ) -> list[Tensor] | None:
        """Take one outer step; there is no need to call ``backward`` or ``zero_grad``.

        Args:
            train_loss: The inner loss, from the weights and the auxiliary parameters; see
                :func:`~auxilearn.hypergradient`.
            val_loss: The outer loss, e.g. the main loss on held-back samples; without the combiner, through which
                smaller weights would look like progress.
            parameters: The weights; an iterable or generator. Not read if ``train_loss`` is an operator.
            aux_params: The auxiliary parameters, all of them in the wrapped optimizer; an iterable or generator.
            return_grads: Whether to return the hypergradient, as it was before clipping.
            grad_scaler: The scaler of a mixed-precision training loop, that of the weights or one of its own. Pass both
                losses unscaled; an operator takes its scale where it is built, ``loss_scale=scaler.get_scale()``. As
                for any optimizer an overflow skips the step (see ``step_was_skipped``), and the next ``update()``
                lowers the scale. Not for ``LBFGS``.
            keep_gradient: Whether to put the train loss's gradient, which this step has computed in any case, into the
                ``.grad`` of the weights, as ``zero_grad()`` and ``train_loss.backward()`` would. The weights' optimizer
                may then step on the same batch, which saves a forward and a backward pass. It is the gradient with the
                auxiliary parameters before this step; with ``grad_scaler`` it is scaled, for ``grad_scaler.step``.

        Returns:
            The hypergradient, one tensor for each trainable auxiliary parameter, if asked for.

        Raises:
            InputError: If an argument breaks a rule. As for every error, nothing was changed.
            SecondOrderError: If an operator has no second derivative.
            SolverError: If the solve fails and ``on_failure="raise"``.
        """
        aux = _checks.tensors("aux_params", aux_params)
        self._own(aux)
        # An operator has parameters of its own.
        params = () if isinstance(train_loss, LossCurvature) else _checks.tensors("parameters", parameters)
        scale = 1.0 if grad_scaler is None else _scale(grad_scaler, self.meta_optimizer, aux[0].device)
        with memory_kept(self.solver), self._grads_kept():
            result = hypergradient(
                train_loss,
                val_loss,
                params=params,
                aux_params=aux,
                solver=self.solver,
                on_failure=self.on_failure,
                loss_scale=scale,
                keep_gradient=keep_gradient,
                group=self.group,
            )
            # A scaler that is switched off skips nothing, so it is shown nothing.
            if grad_scaler is not None and grad_scaler.is_enabled():
                stepped = self._step_scaled(aux, result, grad_scaler, scale)
            else:
                stepped = result.usable
                if stepped:
                    self._assign(aux, result.grads)
                    self._clip(aux)
                    self._advance()
        self.report, self.step_was_skipped = result.report, not stepped
        if keep_gradient:
            own = {id(p) for p in aux}
            _hand_over(result.train_grads, [p for p in params if id(p) not in own], scale)
        return list(result.grads) if return_grads else None

    def _step_scaled(
        self, aux: tuple[Tensor, ...], result: Hypergradient, scaler: torch.amp.GradScaler, scale: float
    ) -> bool:
        # An overflow is shown to the scaler, so that it lowers its scale. So is every other result, for `update()` asks
        # that something was.
        grads = tuple(g * scale for g in result.grads)
        finite = result.finite and math.isfinite(float(Vector(grads).norm()))
        self._assign(aux, grads if finite else tuple(torch.full_like(g, torch.nan) for g in grads))
        try:
            scaler.unscale_(self.meta_optimizer)
        except (RuntimeError, ValueError) as error:
            rule = "`grad_scaler` must be ready for a step."
            cure = (
                "Call its `update()` after every step, and keep the auxiliary parameters in float32, and in one "
                "optimizer all sharded or none."
            )
            raise InputError(explain(rule, f"It says: {error}", cure)) from error
        stepped = finite and result.usable
        if stepped:
            self._clip(aux)
            scaler.step(self.meta_optimizer)
        else:
            self.zero_grad()  # NaN must not stay in `.grad`
        return stepped

    @contextmanager
    def _grads_kept(self) -> Generator[None, None, None]:
        # A scaler or an optimizer may refuse gradients only once they are in place.
        kept = [(p, p.grad) for group in self.param_groups for p in group["params"]]
        try:
            yield
        except BaseException:
            for p, grad in kept:
                p.grad = grad
            raise

    def _own(self, aux: tuple[Tensor, ...]) -> None:
        owned = {id(p) for group in self.param_groups for p in group["params"]}
        foreign = sum(id(p) not in owned for p in aux)
        if foreign:
            rule = "`aux_params` must belong to the wrapped optimizer."
            finding = f"{foreign} of {len(aux)} tensors do not, and would never move."
            raise InputError(explain(rule, finding, "Build the optimizer from them, or call `add_param_group`."))

    def _assign(self, aux: tuple[Tensor, ...], grads: tuple[Tensor, ...]) -> None:
        self.zero_grad()
        for p, g in zip(aux, grads, strict=True):
            # A copy, so that clipping does not reach the gradients that are returned.
            p.grad = g.detach().clone()

    def _clip(self, aux: tuple[Tensor, ...]) -> None:
        if self.max_grad_norm is None:
            return
        ranks = ranks_of(self.group, aux)
        if ranks is None and not any(map(is_distributed, aux)):
            clip_grad_norm_(aux, max_norm=self.max_grad_norm)
            return
        # The same formula; but all ranks must find the same norm, lest their parameters drift apart.
        grads = Vector(p.grad for p in aux if p.grad is not None)
        with agreement(ranks):
            factor = self.max_grad_norm / (float(grads.norm()) + 1e-6)
        for g in grads:
            g.mul_(min(factor, 1.0))

    def _advance(self) -> None:
        if isinstance(self.meta_optimizer, LBFGS):
            # LBFGS asks for the loss only to return it; the gradient is in place.
            self.meta_optimizer.step(lambda: 0.0)
        else:
            self.meta_optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of the auxiliary parameters; :meth:`step` does so by itself.

        Args:
            set_to_none: Whether to drop the tensors instead of filling them with zeros.
        """
        self.meta_optimizer.zero_grad(set_to_none=set_to_none)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of the wrapped optimizer, as they are."""
        return self.meta_optimizer.param_groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add auxiliary parameters to the wrapped optimizer.

        Args:
            param_group: As for any torch optimizer.
        """
        self.meta_optimizer.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return the wrapped optimizer's state, with what the solver remembers under ``"solver"``.

        Returns:
            The state, enough to resume exactly.
        """
        return {**self.meta_optimizer.state_dict(), "solver": self.solver.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a state; one of the bare optimizer is accepted too.

        Args:
            state_dict: What :meth:`state_dict` returned.
        """
        state = dict(state_dict)
        solver = state.pop("solver", None)
        self.meta_optimizer.load_state_dict(state)
        if solver is not None:
            self.solver.load_state_dict(solver)


def _hand_over(grads: tuple[tuple[Tensor, Tensor], ...], params: Iterable[Tensor], scale: float) -> None:
    for p in params:  # those that do not reach the loss
        p.grad = None
    for p, g in grads:
        # A copy, for a gradient may be the very tensor of another weight: that of a @ b in a is b.
        p.grad = g.clone() if scale == 1.0 else g * scale


def _refuse_unfit(optimizer: Optimizer) -> None:
    if isinstance(optimizer, SparseAdam):
        rule, cure = "The wrapped optimizer must take dense gradients.", "Use `Adam`."
        raise InputError(explain(rule, "`SparseAdam` does not.", cure))
    if isinstance(optimizer, LBFGS):
        rule, cure = "`LBFGS` can take one hypergradient a step.", "Use `LBFGS(..., max_iter=1)` without line search."
        for group in optimizer.param_groups:
            if group["max_iter"] != 1 or group["line_search_fn"] is not None:
                finding = f"It has `max_iter={group['max_iter']}` and `line_search_fn={group['line_search_fn']!r}`."
                raise InputError(explain(rule, finding, cure))


def _scale(scaler: torch.amp.GradScaler, optimizer: Optimizer, device: torch.device) -> float:
    if isinstance(optimizer, LBFGS):
        rule, cure = "A `grad_scaler` cannot drive `LBFGS`.", "Wrap another optimizer, or leave `grad_scaler` out."
        raise InputError(explain(rule, "Both were given.", cure))
    given = cast("object", scaler)
    if not isinstance(given, torch.amp.GradScaler):
        rule, cure = "`grad_scaler` must be a `torch.amp.GradScaler`.", "Pass the one of your training loop."
        raise InputError(explain(rule, f"It is a `{type(given).__name__}`.", cure))
    # Before its first use a scaler has no scale yet; scaling anything gives it one.
    return float(scaler.scale(torch.ones((), device=device)))
