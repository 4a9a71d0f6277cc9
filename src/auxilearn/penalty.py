"""First derivatives only: the hypergradient as the difference between two trained networks."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from auxilearn import _checks
from auxilearn._autograd import Optional, filled, gradients, reached
from auxilearn._checks import explain
from auxilearn._vectors import Vector
from auxilearn.bilevel import BilevelProblem
from auxilearn.errors import InputError, SolverError
from auxilearn.safety import ReplayedRandomness

__all__ = ["Penalized", "PenaltyMethod", "penalized"]

Tensors = tuple[Tensor, ...]


@final
@dataclass(frozen=True)
class Penalized:
    """A hypergradient from first derivatives.

    Attributes:
        grads: One tensor for each auxiliary parameter.
        params: The weights trained on the training loss alone.
        shifted: Those trained on the outer loss besides.
        val_loss: The outer loss at ``params``.
    """

    grads: Tensors
    params: Tensors
    shifted: Tensors
    val_loss: float


def penalized(
    problem: BilevelProblem,
    *,
    strength: float,
    steps: int,
    lr: float,
    momentum: float = 0.0,
    symmetric: bool = False,
) -> Penalized:
    r"""Differentiate the outer loss by training twice, once with a little of the outer loss.

    .. math:: W^*_\lambda = \arg\min_W L_T + \tfrac1\lambda L_A, \qquad
        \frac{dL_A}{d\varphi} = \partial_\varphi L_A(W^*_\lambda)
        + \lambda\,\bigl(\partial_\varphi L_T(W^*_\lambda) - \partial_\varphi L_T(W^*)\bigr) + O(1/\lambda)

    For :math:`\partial_\varphi \min_W (L_T + \nu L_A)` needs no derivative of the minimiser, and its derivative with
    respect to :math:`\nu` at 0, here a difference quotient with :math:`\nu = 1/\lambda`, is the hypergradient. No
    second derivative is taken, and memory does not grow with ``steps``.

    What is left over of the training is multiplied by :math:`\lambda`: a large strength needs many steps. In half
    precision the difference is rounding.

    Args:
        problem: The problem, with the weights to start from.
        strength: :math:`\lambda`, how much the training loss counts beside the outer loss.
        steps: Steps of gradient descent for :math:`W^*`, from the start, and again for each :math:`W^*_\lambda`, from
            there; :math:`\ge 1`.
        lr: The learning rate.
        momentum: As in :func:`~auxilearn.unrolled`.
        symmetric: Whether to use the central difference quotient, :math:`\tfrac\lambda2 (\partial_\varphi
            L_T(W^*_\lambda) - \partial_\varphi L_T(W^*_{-\lambda}))`, with the mean of the two direct terms: one more
            training, an error of :math:`O(1/\lambda^2)`. :math:`L_T - \tfrac1\lambda L_A` must have a minimum near
            :math:`W^*`.

    Returns:
        The hypergradient, with the weights it was computed from.

    Raises:
        InputError: If a setting is out of range, or a loss is not a finite scalar or misses its parameters.
        SolverError: If the hypergradient is not finite.

    Example:
        >>> import torch
        >>> problem = BilevelProblem(
        ...     train_loss=lambda W, phi: (W[0] - phi[0]) ** 2 / 2,
        ...     val_loss=lambda W, phi: W[0] ** 2 / 2,
        ...     params=(torch.tensor(0.0),),
        ...     aux_params=(torch.tensor(3.0),),
        ... )
        >>> for strength in (10.0, 100.0):
        ...     round(penalized(problem, strength=strength, steps=100, lr=0.5).grads[0].item(), 2)
        2.73
        2.97

    References:
        Kwon et al., "A fully first-order method for stochastic bilevel optimization", ICML 2023, Eq. (4); Chen et al.,
        "Faster gradient methods for highly-smooth stochastic bilevel optimization", 2025, for the central quotient.
    """
    _checks.positive("strength", strength)
    _checks.count("steps", steps, 1)
    _checks.positive("lr", lr)
    _checks.at_least("momentum", momentum, 0.0)
    aux = tuple(p.detach().requires_grad_() for p in problem.aux_params)

    def trained(start: Tensors, weight: float) -> Tensors:
        params = tuple(p.detach().clone().requires_grad_() for p in start)
        _train(problem, params, aux, SGD(params, lr=lr, momentum=momentum), weight, steps)
        return params

    best = trained(problem.params, 0.0)
    ahead = trained(best, 1.0 / strength)
    behind = trained(best, -1.0 / strength) if symmetric else best
    grads = _quotient(problem, ahead, behind, aux, strength, symmetric=symmetric)
    with torch.no_grad():
        value = float(problem.val_loss(best, aux))
    return Penalized(grads, tuple(p.detach() for p in best), tuple(p.detach() for p in ahead), value)


@final
class PenaltyMethod:
    r"""The same in a training loop: a second network is trained beside yours, on the outer loss, too.

    Your loop trains :math:`W` on :math:`L_T`. This object keeps a twin :math:`W_\lambda`, a copy of the weights with an
    optimizer of its own. Each call takes a few steps of it on :math:`L_T + \tfrac1\lambda L_A` and returns

    .. math:: \partial_\varphi L_A(W_\lambda) + \lambda\,\bigl(\partial_\varphi L_T(W_\lambda)
        - \partial_\varphi L_T(W)\bigr) .

    A call costs ``steps`` gradients of both losses, and three with respect to :math:`\varphi` alone; the memory, a copy
    of the weights and their optimizer's state. It is right up to :math:`O(1/\lambda)` once both networks are trained to
    their minima. While they are on their way it mixes how far they have come with what :math:`\varphi` does: begin with
    a small strength, and let it grow.

    Args:
        problem: The problem. Its ``params`` are the live weights that you train, its ``aux_params`` the live auxiliary
            ones; the losses may read the present batch from outside, as those of
            :meth:`BilevelProblem.from_modules <auxilearn.BilevelProblem.from_modules>` do. Wrap them in
            :func:`auxilearn.safety.second_order` to keep BatchNorm statistics as they are.
        optimizer: Makes the twin's optimizer from its weights. Take the kind and the settings of your own.
        strength: :math:`\lambda`.
        steps: Steps of the twin a call.

    Attributes:
        strength: It may be changed between calls.
        steps: See above.

    Raises:
        InputError: If a setting is out of range, or ``optimizer`` makes none.

    Example:
        >>> import torch
        >>> w, phi = torch.nn.Parameter(torch.zeros(())), torch.nn.Parameter(torch.zeros(()))
        >>> problem = BilevelProblem(
        ...     train_loss=lambda W, phi: (W[0] - phi[0]) ** 2, val_loss=lambda W, phi: (W[0] - 1) ** 2,
        ...     params=(w,), aux_params=(phi,),
        ... )
        >>> primary, outer = torch.optim.SGD([w], lr=0.2), torch.optim.SGD([phi], lr=0.1)
        >>> penalty = PenaltyMethod(problem, lambda W: torch.optim.SGD(W, lr=0.2), strength=10.0)
        >>> for _ in range(100):
        ...     primary.zero_grad()
        ...     problem.train_loss(problem.params, problem.aux_params).backward()
        ...     primary.step()
        ...     (phi.grad,) = penalty.hypergradient()  # or `penalty.advance()`, between outer steps
        ...     outer.step()
        >>> round(phi.item(), 3)
        1.0

    References:
        Kwon et al., "A fully first-order method for stochastic bilevel optimization", ICML 2023, Alg. 1.
    """

    def __init__(
        self,
        problem: BilevelProblem,
        optimizer: Callable[[list[Tensor]], Optimizer],
        *,
        strength: float,
        steps: int = 1,
    ) -> None:
        _checks.positive("strength", strength)
        _checks.count("steps", steps, 1)
        self._problem, self._make = problem, optimizer
        self.strength, self.steps = strength, steps
        self.restart()

    def restart(self) -> None:
        """Copy the weights anew, and begin with a fresh optimizer.

        Raises:
            InputError: If the function given makes no optimizer.
        """
        self._twin = tuple(p.detach().clone().requires_grad_() for p in self._problem.params)
        rule, cure = "`optimizer` must be a function that makes one.", "E.g. `lambda W: SGD(W, lr=0.1)`."
        if not callable(self._make):
            raise InputError(explain(rule, f"It is a `{type(self._make).__name__}`.", cure))
        made = cast("object", self._make(list(self._twin)))
        if not isinstance(made, Optimizer):
            raise InputError(explain(rule, f"It gives a `{type(made).__name__}`.", cure))
        self._optimizer = made

    def advance(self) -> None:
        """Train the twin for ``steps``: after each of your training steps, where outer steps are rarer than those.

        Raises:
            InputError: If a loss is not a finite scalar or misses its parameters, or the strength is not positive.
                After an error the twin begins anew from the weights.
        """
        _checks.positive("strength", self.strength)
        try:
            _train(self._problem, self._twin, self._aux(), self._optimizer, 1.0 / self.strength, self.steps)
        except InputError:
            self.restart()
            raise

    def hypergradient(self) -> Tensors:
        """Train the twin for ``steps``, and return the hypergradient; nothing else is changed.

        Returns:
            One tensor for each auxiliary parameter.

        Raises:
            InputError: If a loss is not a finite scalar or misses its parameters, or the strength is not positive.
            SolverError: If the hypergradient is not finite. After an error the twin begins anew from the weights.
        """
        self.advance()
        try:
            return _quotient(
                self._problem, self._twin, self._problem.params, self._aux(), self.strength, symmetric=False
            )
        except (InputError, SolverError):
            self.restart()
            raise

    def _aux(self) -> Tensors:
        return tuple(p.detach().requires_grad_() for p in self._problem.aux_params)

    def state_dict(self) -> dict[str, Any]:
        """Return the twin, its optimizer's state and the strength.

        Returns:
            The state, enough to resume exactly; no copies, so save it before the next call.
        """
        twin = [p.detach() for p in self._twin]
        return {"twin": twin, "optimizer": self._optimizer.state_dict(), "strength": self.strength}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Restore what :meth:`state_dict` returned.

        Args:
            state: The state.

        Raises:
            InputError: If it belongs to other weights.
        """
        shapes = [tuple(t.shape) for t in state["twin"]], [tuple(t.shape) for t in self._twin]
        if shapes[0] != shapes[1]:
            rule, finding = "A state must be that of the same weights.", f"It has {shapes[0]}, they have {shapes[1]}."
            raise InputError(explain(rule, finding, "Build the same network first."))
        with torch.no_grad():
            for p, saved in zip(self._twin, state["twin"], strict=True):
                p.copy_(saved)
        self._optimizer.load_state_dict(state["optimizer"])
        self.strength = state["strength"]


@torch.enable_grad()
def _train(
    problem: BilevelProblem, params: Tensors, aux: Tensors, optimizer: Optimizer, weight: float, steps: int
) -> None:
    # Descend L_T + weight · L_A; the two graphs are never in memory together.
    fixed = tuple(p.detach() for p in aux)
    for _ in range(steps):
        found = _gradient("train_loss", problem.train_loss, params, fixed, params)
        reached("train_loss", params, found)
        total = filled(found, params)
        if weight:
            outer = _gradient("val_loss", problem.val_loss, params, fixed, params)
            reached("val_loss", params, outer)
            total = total.add(filled(outer, params), scale=weight)
        for p, g in zip(params, total, strict=True):
            p.grad = g
        optimizer.step()
        optimizer.zero_grad()


@torch.enable_grad()
def _quotient(
    problem: BilevelProblem, ahead: Tensors, behind: Tensors, aux: Tensors, strength: float, *, symmetric: bool
) -> Tensors:
    # Both sides see the same random numbers: λ would multiply the difference of two dropout masks.
    replay = ReplayedRandomness()

    def slope(name: str, loss: Callable[[Tensors, Tensors], Tensor], params: Tensors) -> Optional:
        with replay():
            return _gradient(name, loss, tuple(p.detach() for p in params), aux, aux)

    inner = slope("train_loss", problem.train_loss, ahead)
    if all(g is None for g in inner):
        rule, cure = "`aux_params` must act on the train loss.", "Use them in `train_loss`."
        raise InputError(explain(rule, f"None of the {len(aux)} tensors does.", cure))
    difference = filled(inner, aux) - filled(slope("train_loss", problem.train_loss, behind), aux)
    direct = filled(slope("val_loss", problem.val_loss, ahead), aux)
    if symmetric:
        difference, direct = difference / 2, (direct + filled(slope("val_loss", problem.val_loss, behind), aux)) / 2
    grads = direct.add(difference, scale=strength)
    if not math.isfinite(float(Vector(grads).norm())):
        rule, cure = "A hypergradient must be finite.", "Use a smaller learning rate or strength."
        raise SolverError(explain(rule, "A gradient with respect to `aux_params` is not.", cure))
    return grads.tensors


def _gradient(
    name: str, loss: Callable[[Tensors, Tensors], Tensor], params: Tensors, aux: Tensors, inputs: Tensors
) -> Optional:
    value = loss(params, aux)
    if inputs is aux and not value.requires_grad:
        return (None,) * len(aux)  # a loss that does not know φ, as the outer one may
    return gradients(_checks.scalar_loss(name, value), inputs, retain_graph=False)
