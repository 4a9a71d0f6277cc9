"""The metric of the optimizer in use: which step a unit of gradient causes, weight by weight."""

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from auxilearn._checks import explain
from auxilearn._vectors import Vector
from auxilearn.errors import InputError

Group = dict[str, Any]
State = dict[str, Any]
Rule = Callable[[Tensor, Group, State], tuple[Tensor, Tensor]]


@final
class OptimizerMetric:
    r"""A preconditioner read from an optimizer's state, so that one Neumann term is one step of that optimizer.

    An optimizer with a diagonal metric moves the weights by :math:`W \leftarrow W - P\,(\partial_W L_T + D W)`, where
    :math:`P` holds its learning rates and second moments and :math:`D` its weight decay. Its fixed point is that of
    the regularised loss, so the implicit system is

    .. math:: (\partial_W^2 L_T + D)\, x = v, \qquad
        x_J = \alpha \sum_{j=0}^{J} \bigl(I - \alpha P (\partial_W^2 L_T + D)\bigr)^j P v .

    ===========  ==================================================  ==========================================
    optimizer    :math:`P` (lr = learning rate, μ = momentum)        :math:`D` (λ = weight decay)
    ===========  ==================================================  ==========================================
    SGD          lr · (1 − dampening) / (1 − μ)                      λ
    Adam         lr / (√v̂ + ε)                                       λ
    AdamW        lr / (√v̂ + ε)                                       λ · (√v̂ + ε), for its decay is decoupled
    RMSprop      lr / (√v + ε) / (1 − μ), v centred if it is         λ
    Adagrad      lr_t / (√s + ε)                                     λ
    ===========  ==================================================  ==========================================

    Second moments count as constants, which they are where they are made of gradient noise.

    Args:
        optimizer: The optimizer that trains the weights. It is read anew at every solve and never changed.

    Raises:
        InputError: For an optimizer of another class, or one that maximises.

    Example:
        >>> w = torch.nn.Parameter(torch.ones(2))
        >>> metric = OptimizerMetric(SGD([w], lr=0.1, momentum=0.9, weight_decay=0.01))
        >>> P, D = metric.read([w])
        >>> round(P.tensors[0][0].item(), 4), round(D.tensors[0][0].item(), 4)
        (1.0, 0.01)
    """

    def __init__(self, optimizer: Optimizer, /) -> None:
        self._rule = _rule_of(optimizer)
        self._optimizer = optimizer

    def read(self, params: Sequence[Tensor], /) -> tuple[Vector, Vector]:
        """Return :math:`P` and :math:`D` for some weights.

        Args:
            params: The weights, all of them in the optimizer and stepped at least once where it keeps a state.

        Returns:
            The two diagonals.

        Raises:
            InputError: If a weight is not in the optimizer, or has no state yet.
        """
        groups = {id(p): group for group in self._optimizer.param_groups for p in group["params"]}
        pairs = [self._entry(p, groups) for p in params]
        return Vector(p for p, _ in pairs), Vector(d for _, d in pairs)

    def _entry(self, param: Tensor, groups: dict[int, Group]) -> tuple[Tensor, Tensor]:
        rule = "`OptimizerMetric` needs the optimizer that trains these parameters, after its first step."
        if id(param) not in groups:
            finding = f"A parameter of shape {tuple(param.shape)} is in none of its groups."
            raise InputError(explain(rule, finding, "Pass the primary optimizer, or leave that parameter out."))
        state: State = self._optimizer.state.get(param, {})
        # Adagrad makes its state when it is built, before its first step.
        if self._rule is not _sgd and (not state or float(state["step"]) == 0.0):
            finding = f"A parameter of shape {tuple(param.shape)} has no state yet."
            raise InputError(explain(rule, finding, "Take a training step before the outer step."))
        with torch.no_grad():
            return self._rule(param, groups[id(param)], state)


def _rule_of(optimizer: Optimizer) -> Rule:
    rules: dict[type[Optimizer], Rule] = {SGD: _sgd, Adam: _adam, AdamW: _adamw, RMSprop: _rmsprop, Adagrad: _adagrad}
    if type(optimizer) not in rules:
        rule = "`OptimizerMetric` knows SGD, Adam, AdamW, RMSprop and Adagrad."
        cure = "Use one of them, or pass a diagonal as the preconditioner."
        raise InputError(explain(rule, f"It got `{type(optimizer).__name__}`.", cure))
    if any(group.get("maximize") for group in optimizer.param_groups):
        rule = "The inner problem must be a minimisation."
        raise InputError(explain(rule, "The optimizer has `maximize=True`.", "Negate the loss instead."))
    return rules[type(optimizer)]


def _sgd(param: Tensor, group: Group, state: State) -> tuple[Tensor, Tensor]:
    # A constant gradient g makes the momentum buffer g (1 − dampening) / (1 − μ) in the long run.
    reach = (1 - group["dampening"]) / (1 - group["momentum"]) if group["momentum"] else 1.0
    return torch.full_like(param, float(group["lr"]) * reach), torch.full_like(param, group["weight_decay"])


def _adam(param: Tensor, group: Group, state: State) -> tuple[Tensor, Tensor]:
    second = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    root = (second / (1 - group["betas"][1] ** float(state["step"]))).sqrt() + group["eps"]
    decay = torch.full_like(param, group["weight_decay"])
    return float(group["lr"]) / root, decay * root if group.get("decoupled_weight_decay") else decay


def _adamw(param: Tensor, group: Group, state: State) -> tuple[Tensor, Tensor]:
    # torch 2.6 has no such entry in the groups of AdamW, whose decay is decoupled by definition.
    return _adam(param, {**group, "decoupled_weight_decay": True}, state)


def _rmsprop(param: Tensor, group: Group, state: State) -> tuple[Tensor, Tensor]:
    second = state["square_avg"] - state["grad_avg"].square() if group["centered"] else state["square_avg"]
    root = second.clamp(min=0).sqrt() + group["eps"]
    return float(group["lr"]) / (1 - group["momentum"]) / root, torch.full_like(param, group["weight_decay"])


def _adagrad(param: Tensor, group: Group, state: State) -> tuple[Tensor, Tensor]:
    rate = float(group["lr"]) / (1 + (float(state["step"]) - 1) * group["lr_decay"])
    return rate / (state["sum"].sqrt() + group["eps"]), torch.full_like(param, group["weight_decay"])
