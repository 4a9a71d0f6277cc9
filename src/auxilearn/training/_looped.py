"""Models of any kind, one after another."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from auxilearn.safety import second_order
from auxilearn.training._fleet import Fleet
from auxilearn.training._problem import Batch, Measured, Problem
from auxilearn.training._returned import checked_logits, checked_losses, logits_by, measured_by


@final
class Looped(Fleet):
    """Any models, one after another.

    Args:
        problem: The problem.
        models: The models; all on one device.
    """

    def __init__(self, problem: Problem, models: Sequence[nn.Module]) -> None:
        self._problem, self._models = problem, nn.ModuleList(models)
        self.params = tuple(p for p in self._models.parameters() if p.requires_grad)
        self.size = len(models)
        self.device = next(self._models.parameters()).device

    def measure(self, batch: Batch, labelled: Tensor | None) -> Measured:
        found = [checked_losses(measured_by(self._problem, m, batch), self._problem, labelled) for m in self._models]
        return Measured(torch.stack([values for values, _ in found]), found[0][1])

    @torch.no_grad()
    def logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with evaluating(self._models):
            found = [checked_logits(logits_by(self._problem, m, batch)) for m in self._models]
        return torch.stack([logits for logits, _ in found]), found[0][1]

    def module(self, index: int) -> nn.Module:
        return self._models[index]

    def train(self, mode: bool = True) -> None:
        self._models.train(mode)

    def clip(self, norm: float) -> None:
        for model in self._models:
            clip_grad_norm_(model.parameters(), norm)

    def second_order(self) -> AbstractContextManager[None]:
        return second_order(self._models)

    def state_dict(self) -> dict[str, Any]:
        return self._models.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._models.load_state_dict(state)


@final
class evaluating:  # noqa: N801 - reads as a statement
    """Evaluation mode for a while; afterwards every part is in the mode that it was in.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._modes = [(m, m.training) for m in module.modules()]
        self._module = module

    def __enter__(self) -> None:
        self._module.eval()

    def __exit__(self, *_: object) -> None:
        for module, mode in self._modes:
            module.training = mode
