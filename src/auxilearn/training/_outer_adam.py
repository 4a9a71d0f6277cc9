"""Adam with one second moment for all numbers of a row."""

from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from auxilearn import _checks


@final
class OuterAdam(Optimizer):
    r"""Step along the hypergradient's direction, by a length that does not depend on its scale.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1)\, g, \quad
        v \leftarrow \beta_2 v + (1 - \beta_2)\, \operatorname{mean}_k g_k^2, \quad
        u \leftarrow \max(u, \hat v), \quad \theta \leftarrow \theta - \eta\, \hat m / \sqrt u

    Adam itself divides each number by its own second moment, and so moves the weight of a loss about which nothing is
    known as fast as that of a harmful one. With a common :math:`v` a large hypergradient moves its weight far and noise
    moves the others little. The largest :math:`v` so far, as in AMSGrad, keeps it so when the harmful losses are silent
    and only noise is left.

    Args:
        params: Tensors whose first dimension is the row: one combiner's parameters.
        lr: :math:`\eta`, the root mean square of a step.
        betas: :math:`\beta_1, \beta_2`.

    Raises:
        InputError: If ``lr`` is not above 0.

    Example:
        >>> theta = nn.Parameter(torch.zeros(1, 2))
        >>> theta.grad = torch.tensor([[1.0, -0.01]])
        >>> OuterAdam([theta], lr=0.1).step()
        >>> theta.data
        tensor([[-0.1414,  0.0014]])

    References:
        Kingma and Ba, "Adam", ICLR 2015; Reddi et al., "On the convergence of Adam and beyond", ICLR 2018, Alg. 2.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 0.3, betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        _checks.positive("lr", lr)
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take a step.

        Args:
            closure: Recomputes the loss; as for any torch optimizer.

        Returns:
            The closure's value.
        """
        loss = None if closure is None else closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, p.grad, group["lr"], first, second)
        return loss

    def _move(self, p: Tensor, g: Tensor, lr: float, first: float, second: float) -> None:
        state: dict[str, Any] = self.state[p]
        if not state:
            state["step"] = torch.zeros(())
            state["m"], state["v"] = torch.zeros_like(p), torch.zeros_like(p.reshape(len(p), -1)[:, 0])
        state["step"] += 1
        state["m"].lerp_(g, 1 - first)
        state["v"].lerp_(g.reshape(len(g), -1).square().mean(1), 1 - second)
        t = float(state["step"])
        m, v = state["m"] / (1 - first**t), state["v"] / (1 - second**t)
        # A row whose hypergradient has always been zero, or so small that its square is, stays where it is.
        scale = torch.where(v > 0, v.rsqrt(), 0.0).view(-1, *(1,) * (p.dim() - 1))
        p.sub_(lr * m * scale)
