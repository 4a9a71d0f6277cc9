"""The slow truth: differentiate through the training steps themselves."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from auxilearn import _checks, _ranks
from auxilearn._autograd import filled, gradients, reached
from auxilearn._checks import explain
from auxilearn.bilevel import BilevelProblem
from auxilearn.errors import InputError

__all__ = ["Unrolled", "unrolled"]


@final
@dataclass(frozen=True)
class Unrolled:
    """The derivative through a number of training steps.

    Attributes:
        grads: One tensor for each auxiliary parameter.
        params: The weights after the last step, without their graph.
        val_loss: The outer loss there.
    """

    grads: tuple[Tensor, ...]
    params: tuple[Tensor, ...]
    val_loss: float


def unrolled(problem: BilevelProblem, *, steps: int, lr: float, momentum: float = 0.0) -> Unrolled:
    r"""Differentiate the outer loss through ``steps`` of gradient descent with momentum.

    .. math:: m_{t+1} = \mu m_t + \partial_W L_T(W_t, \varphi), \qquad W_{t+1} = W_t - \eta\, m_{t+1}, \qquad
        \frac{d}{d\varphi} L_A(W_k(\varphi), \varphi)

    Started at a minimum, without momentum, it is the implicit hypergradient with a Neumann series of ``steps`` terms.
    Memory grows with ``steps``: this is for checks, and for inner problems that are not solved to convergence.

    Args:
        problem: The problem, with the weights to start from.
        steps: :math:`k \ge 0`.
        lr: The learning rate :math:`\eta`.
        momentum: :math:`\mu`.

    Returns:
        The gradients, the final weights and the outer loss.

    Raises:
        InputError: If a setting is out of range, a loss is not a finite scalar or misses its parameters, or there are
            several ranks that were not declared independent.

    Example:
        >>> import torch
        >>> problem = BilevelProblem(
        ...     train_loss=lambda W, phi: (W[0] - phi[0]) ** 2 / 2,
        ...     val_loss=lambda W, phi: W[0] ** 2 / 2,
        ...     params=(torch.tensor(2.0),),
        ...     aux_params=(torch.tensor(2.0),),
        ... )
        >>> unrolled(problem, steps=2, lr=0.5).grads[0].item()
        1.5

    References:
        Franceschi et al., "Forward and reverse gradient-based hyperparameter optimization", ICML 2017 (reverse mode).
    """
    _ranks.refuse_undeclared("`unrolled`", "Use it in one process, with all data.")
    _checks.count("steps", steps, 0)
    _checks.positive("lr", lr)
    _checks.at_least("momentum", momentum, 0.0)
    aux = tuple(p.detach().requires_grad_() for p in problem.aux_params)
    params = tuple(p.detach().requires_grad_() for p in problem.params)
    velocity: tuple[Tensor, ...] | None = None
    with torch.enable_grad():
        for _ in range(steps):
            loss = _checks.scalar_loss("train_loss", problem.train_loss(params, aux))
            found = gradients(loss, params, create_graph=True)
            reached("train_loss", params, found)
            gradient = filled(found, params)
            velocity = (
                gradient.tensors
                if velocity is None or not momentum
                else tuple(momentum * m + g for m, g in zip(velocity, gradient, strict=True))
            )
            params = tuple(p - lr * m for p, m in zip(params, velocity, strict=True))
        outer = _checks.scalar_loss("val_loss", problem.val_loss(params, aux))
        by_aux = gradients(outer, aux, retain_graph=False)
        grads = filled(by_aux, aux)
    if steps and all(g is None for g in by_aux):
        rule, cure = "`aux_params` must act on a loss.", "Use them in `train_loss`."
        raise InputError(explain(rule, f"None of the {len(aux)} tensors does.", cure))
    return Unrolled(grads.tensors, tuple(p.detach() for p in params), outer.item())
