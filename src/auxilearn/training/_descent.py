"""One step of the inner optimizer: mixed precision, accumulation, clipping and schedule in one place."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import LBFGS, Optimizer, SparseAdam
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.training._settings import Training

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@final
class Descent:
    """The inner optimizer with what belongs to it.

    Args:
        params: The weights.
        training: The settings.
        device: Where the weights lie.
        clip: Clips the gradient to a norm, where the weights are those of several models; None clips it as a whole.

    Raises:
        InputError: If no optimizer or schedule is built, or one that cannot be stepped without being told a loss.
    """

    def __init__(
        self,
        params: Sequence[nn.Parameter],
        training: Training,
        device: torch.device,
        *,
        clip: Callable[[float], None] | None = None,
    ) -> None:
        self._params, self._training, self._device = params, training, device
        self._clip = clip
        self.optimizer = _checked_optimizer(training.optimizer(params), params)
        self._scheduler = None if training.scheduler is None else _checked_schedule(training.scheduler(self.optimizer))
        self._scaler = torch.amp.GradScaler(device.type, enabled=training.precision == "float16")

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a training step's forward passes.

        Returns:
            Autocast to the chosen precision.
        """
        precision = self._training.precision
        return torch.autocast(self._device.type, _DTYPES[precision], enabled=precision != "float32")

    def step(self, losses: Sequence[Callable[[], Tensor]]) -> None:
        """Move the weights against the mean gradient of some losses.

        Args:
            losses: For each batch a function that computes the loss to descend.

        Raises:
            InputError: If a loss does not depend on the weights, or a gradient is not finite; they were not moved then.
        """
        self.optimizer.zero_grad()
        for loss in losses:
            found = loss()
            if not found.requires_grad:
                cure = "Remove `.detach()`, `.item()` or `torch.no_grad()` from `losses`."
                raise InputError(explain("The losses must depend on the weights.", "They have no graph.", cure))
            self._scaler.scale(found / len(losses)).backward()
        if not self._scaler.is_enabled():
            self._refuse_broken()
        if self._training.max_grad_norm is not None:
            self._scaler.unscale_(self.optimizer)
            if self._clip is None:
                clip_grad_norm_(self._params, self._training.max_grad_norm)
            else:
                self._clip(self._training.max_grad_norm)
        scale = self._scaler.get_scale()
        self._scaler.step(self.optimizer)
        self._scaler.update()
        # A lower scale says that the gradients overflowed and the step was skipped; then the schedule waits, too.
        if self._scheduler is not None and self._scaler.get_scale() >= scale:
            self._scheduler.step()

    def _refuse_broken(self) -> None:
        # The sum of a gradient is finite only if all of it is; it is read once, and nothing is stored.
        sums = [p.grad.sum() for p in self._params if p.grad is not None]
        if sums and not bool(torch.stack(sums).isfinite().all()):
            self.optimizer.zero_grad()
            finding = "The losses are, but the gradient of some weights is not."
            cure = "Look for a square root or a norm at zero, or a NaN that a mask hides; the weights were not moved."
            raise InputError(explain("The gradients of the losses must be finite.", finding, cure))

    @property
    def learning_rate(self) -> float:
        """The present learning rate of the first group of weights."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def settings(self) -> list[object]:
        """What the state fits to: kinds and settings of the optimizer and the schedule."""
        groups = self.optimizer.state_dict()["param_groups"]
        return [type(self.optimizer).__name__, type(self._scheduler).__name__, groups]

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on exactly.

        Returns:
            The states of optimizer, schedule and scaler.
        """
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self._scheduler is None else self._scheduler.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["scheduler"])


def _checked_optimizer(found: object, params: Sequence[nn.Parameter]) -> Optimizer:
    rule = "`optimizer` must build a torch optimizer for dense gradients that steps without being told the loss."
    cure = "E.g. `lambda weights: Adam(weights, lr=1e-3)`."
    if not isinstance(found, Optimizer) or isinstance(found, (LBFGS, SparseAdam)):
        raise InputError(explain(rule, f"It built a `{type(found).__name__}`.", cure))
    known = {id(p) for p in params}
    if not any(id(p) in known for group in found.param_groups for p in group["params"]):
        rule = "`optimizer` must be built from the weights that it is given: every model is a copy with its own."
        raise InputError(explain(rule, "It holds none of them.", cure))
    return found


def _checked_schedule(found: object) -> LRScheduler:
    rule = "`scheduler` must build a schedule of `torch.optim.lr_scheduler` that is stepped without a metric."
    if not isinstance(found, LRScheduler) or isinstance(found, ReduceLROnPlateau):
        raise InputError(explain(rule, f"It built a `{type(found).__name__}`.", "E.g. `StepLR(optimizer, 100)`."))
    return found
