"""The Nash bargaining solution of gradients."""

import math
from typing import Any, cast

import torch
from torch import Tensor

MAX_ITERATIONS = 200
"""Newton's method needs about ten; the bound ends it where rounding keeps it from its tolerance."""

SHORTEST = 1e-12
"""The line search ends here; a step that short changes nothing."""


def bargain(gramian: Tensor, preferences: Tensor, /, *, damping: float) -> Tensor:
    r"""Solve the bargaining problem of K gradients, in float64.

    .. math:: G \alpha = p / \alpha, \quad \alpha > 0 \qquad\iff\qquad
        \alpha = \arg\min_{\alpha > 0}\; \tfrac12 \alpha^\top G \alpha - \sum_k p_k \log \alpha_k

    The right form is strictly convex, hence there is one solution, and Newton's method with a line search finds it.
    It is scaled by the gradients' lengths first: with :math:`\beta_k = \alpha_k \lVert g_k \rVert`, G becomes the
    matrix C of cosines. Where gradients cancel, C is singular and the solution infinite; :math:`C + \delta I` keeps
    :math:`\beta_k` below :math:`\sqrt{\sum_i p_i / \delta}`.

    Args:
        gramian: G, symmetric and positive semidefinite, ``(K, K)``.
        preferences: p > 0, ``(K,)``.
        damping: :math:`\delta`.

    Returns:
        :math:`\alpha`, ``(K,)``, in float64 where ``gramian`` lies; 0 where a gradient is zero.
    """
    lengths = gramian.diagonal().double().clamp(min=0.0).sqrt()
    alive = lengths > 0
    alpha = torch.zeros_like(lengths)
    if bool(alive.any()):
        scale = lengths[alive]
        cosines = gramian.double()[alive][:, alive] / torch.outer(scale, scale)
        cosines = cosines + damping * torch.eye(len(cosines)).to(cosines)
        alpha[alive] = _newton(cosines, preferences[alive].to(cosines)) / scale
    return alpha


def sensitivity(gramian: Tensor, preferences: Tensor, alpha: Tensor, slope: Tensor, /, *, damping: float) -> Tensor:
    r"""Pull a slope with respect to the solution back to the preferences, by the implicit function theorem.

    .. math:: \frac{\partial \alpha}{\partial p} = \big(G + \operatorname{diag}(p / \alpha^2)\big)^{-1}
        \operatorname{diag}(1 / \alpha)

    Args:
        gramian: G, ``(K, K)``.
        preferences: p, ``(K,)``.
        alpha: What :func:`bargain` returned for them.
        slope: :math:`\partial L / \partial \alpha`, ``(K,)``.
        damping: As for :func:`bargain`.

    Returns:
        :math:`\partial L / \partial p`, ``(K,)``, in float64; 0 where a gradient is zero.
    """
    result = torch.zeros_like(alpha)
    alive = alpha > 0
    if bool(alive.any()):
        G, a, p = gramian.double()[alive][:, alive], alpha[alive], preferences.to(alpha)[alive]
        M = G + torch.diag(damping * G.diagonal() + p / a.square())
        result[alive] = _solve(M, slope.to(alpha)[alive]) / a  # M is symmetric
    return result


def _newton(C: Tensor, p: Tensor) -> Tensor:
    b = p.sqrt()  # the solution where no gradient has anything to do with another
    before = math.inf
    for _ in range(MAX_ITERATIONS):
        gradient = C @ b - p / b
        direction = -_solve(C + torch.diag(p / b.square()), gradient)
        slope = float(gradient @ direction)
        # The function divided by the least p is self-concordant: from a decrement of 1/4 on, full steps square it.
        decrement = math.sqrt(max(0.0, -slope) / float(p.min()))
        length = 1.0 if decrement < 0.25 else _length(C, p, b, direction, slope)
        b = b + length * direction
        # Below 1e-6 it is below 1e-11 now; and where it no longer falls it is rounding, of a nearly singular matrix.
        if decrement < 1e-6 or before <= decrement < 0.25:
            break
        before = decrement
    return b


def _length(C: Tensor, p: Tensor, b: Tensor, direction: Tensor, slope: float) -> float:
    # The longest step that stays positive, then halved until the function falls enough.
    shrinking = direction < 0
    room = float((-b[shrinking] / direction[shrinking]).amin()) if bool(shrinking.any()) else math.inf
    length, value = min(1.0, 0.99 * room), _objective(C, p, b)
    while length > SHORTEST and float(_objective(C, p, b + length * direction) - value) > 1e-4 * length * slope:
        length /= 2
    return length


def _objective(C: Tensor, p: Tensor, b: Tensor) -> Tensor:
    return b @ (C @ b) / 2 - p @ b.log()


def _solve(M: Tensor, right: Tensor) -> Tensor:
    return cast("Tensor", cast("Any", torch.linalg).solve(M, right))
