"""The weights that a scalarization of the losses amounts to: its derivative."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.optim import Adam

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn._extras import require
from auxilearn.errors import InputError
from auxilearn.weighting._base import Weighting
from auxilearn.weighting._memory import make_room, recall, remember
from auxilearn.weighting._step import Step


class ScalarizedWeighting(Weighting, ABC):
    r"""A weighting that follows a scalarizer of TorchJD.

    .. math:: w_k = \frac{\partial S(\ell; s)}{\partial \ell_k}

    A scalarizer's parameters s are stepped by Adam along :math:`\partial S / \partial s`; the weights of a step are
    those before. A scalarizer with an ``update`` (FAMO) learns from the losses after the step instead, and one with a
    ``step`` (DWA) is told of an epoch's end.

    Subclasses implement :meth:`build`.

    Args:
        lr: The learning rate of the scalarizer's parameters; None takes that of the training step, as the papers do.
        epoch: The steps that count as an epoch.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If ``lr`` or ``epoch`` is not positive.
    """

    scalarizer: nn.Module

    def __init__(self, *, lr: float | None = None, epoch: int = 25, normalise: bool = False) -> None:
        super().__init__(normalise=normalise)
        if lr is not None:
            _checks.positive("lr", lr)
        _checks.count("epoch", epoch, 1)
        self.lr = lr
        self.epoch = epoch
        self._adam: Adam | None = None
        self.register_load_state_dict_pre_hook(make_room)

    @abstractmethod
    def build(self) -> nn.Module:
        """Build a new scalarizer for ``self.num_losses`` losses.

        Returns:
            A ``torchjd.scalarization.Scalarizer``.
        """

    def allocate(self) -> None:
        """Build the scalarizer, and an optimizer if it needs one."""
        self.scalarizer = self.build()
        parameters = list(self.scalarizer.parameters())
        own = parameters and not hasattr(self.scalarizer, "update")
        self._adam = Adam(parameters, lr=self.lr or 1e-3) if own else None

    def _weigh(self, step: Step, /) -> Tensor:
        self._above_floor(step.losses.detach())
        losses = step.losses.detach().to(self._home(), copy=True).requires_grad_()
        # Those that learn by `update` keep what is below from their own parameters.
        learned = list(self.scalarizer.parameters()) if self._adam is not None else []
        with torch.enable_grad():
            total = self._scalarize(losses)
            weights, *slopes = torch.autograd.grad(total, [losses, *learned], allow_unused=True, materialize_grads=True)
        if not bool(total.isfinite()) or not bool(weights.isfinite().all()):
            rule = f"`{type(self.scalarizer).__name__}` must be finite and have finite derivatives."
            finding = f"For losses {step.losses.tolist()} it is {total.item()}, its derivatives {weights.tolist()}."
            raise InputError(explain(rule, finding, "Does it take logarithms or roots? Pass positive losses."))
        if self._adam is not None:
            for group in self._adam.param_groups:
                group["lr"] = step.learning_rate if self.lr is None else self.lr
            for parameter, slope in zip(learned, slopes, strict=True):
                parameter.grad = slope
            self._adam.step()
            self._adam.zero_grad()
        return weights.to(step.losses)

    def after(self, step: Step, losses: Callable[[], Tensor], /) -> None:
        """Let the scalarizer see the losses after the step, and the end of an epoch.

        Args:
            step: The step.
            losses: Computes the losses anew; only called if the scalarizer has an ``update``.

        Raises:
            InputError: If the new losses are not finite, or below what the scalarizer allows.
        """
        scalarizer = cast("Any", self.scalarizer)
        if hasattr(scalarizer, "update"):
            with torch.no_grad():
                now = losses().detach()
            if now.shape != step.losses.shape or not bool(now.isfinite().all()):
                rule = f"The losses after the step must be {self.num_losses} finite numbers."
                cure = "Did training diverge? Try a smaller learning rate."
                raise InputError(explain(rule, f"They are {now.tolist()}.", cure))
            self._above_floor(now)
            scalarizer.update(now.to(self._home()))
        if hasattr(scalarizer, "step") and (step.number + 1) % self.epoch == 0:
            scalarizer.step()

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the scalarizer and the optimizer remember, for ``state_dict()``.

        Returns:
            The state; empty before :meth:`prepare`.
        """
        if not self.num_losses:
            return {}
        state: dict[str, Any] = {"memory": remember(self.scalarizer)}
        return state if self._adam is None else {**state, "adam": self._adam.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore it, for ``load_state_dict()``.

        Args:
            state: What :meth:`get_extra_state` returned.
        """
        if not self.num_losses or not state:
            return
        recall(self.scalarizer, state["memory"])
        if self._adam is not None:
            self._adam.load_state_dict(state["adam"])

    def _scalarize(self, losses: Tensor) -> Tensor:
        try:
            return cast("Tensor", self.scalarizer(losses))
        except ValueError as error:
            rule, cure = "The scalarizer must accept the losses.", "Pass losses of the kind that it was made for."
            raise InputError(explain(rule, f"It says: {error}", cure)) from error

    def _home(self) -> torch.device:
        return next((p.device for p in self.scalarizer.parameters()), torch.device("cpu"))

    def _above_floor(self, losses: Tensor) -> None:
        # TorchJD's FAMO takes the logarithm of what lies above this bound, and does not look at it.
        floor = getattr(self.scalarizer, "min_losses", None)
        if isinstance(floor, Tensor) and bool((losses < floor.to(losses)).any()):
            rule = f"`{type(self.scalarizer).__name__}` needs losses above their lower bounds {floor.tolist()}."
            raise InputError(explain(rule, f"They are {losses.tolist()}.", "Set its `min_losses`."))


@final
class Scalarized(ScalarizedWeighting):
    r"""Weights by any scalarizer of TorchJD; those with a name here are :class:`Uncertainty` and its neighbours.

    .. math:: w_k = \frac{\partial S(\ell; s)}{\partial \ell_k}

    Args:
        scalarizer: A ``torchjd.scalarization.Scalarizer``, which is copied; or what makes one from the number of losses
            K, such as the class ``IMTLL`` itself.
        lr: The learning rate of the scalarizer's parameters; None takes that of the training step.
        epoch: The steps that count as an epoch, for a scalarizer that has a ``step``.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If an argument is out of range, or ``scalarizer`` is neither.
        MissingExtraError: If TorchJD is not installed.

    Example:
        >>> from torchjd.scalarization import GeometricMean
        >>> w = torch.tensor([1.0, 4.0], requires_grad=True)
        >>> weighting = Scalarized(GeometricMean())
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> weighting.weights(Step(1 * w, (w,), number=0, main=0, learning_rate=0.1))
        tensor([1.0000, 0.2500])

    References:
        TorchJD, ``torchjd.scalarization``, https://torchjd.org.
    """

    def __init__(
        self,
        scalarizer: nn.Module | Callable[[int], nn.Module],
        *,
        lr: float | None = None,
        epoch: int = 25,
        normalise: bool = False,
    ) -> None:
        super().__init__(lr=lr, epoch=epoch, normalise=normalise)
        wanted = require("torchjd.scalarization", extra="experiments").Scalarizer
        given = cast("object", scalarizer)
        if not isinstance(given, wanted) and (isinstance(given, nn.Module) or not callable(given)):
            rule = "`scalarizer` must be a `torchjd.scalarization.Scalarizer`, or make one from the number of losses."
            raise InputError(explain(rule, f"It is a `{type(given).__name__}`.", "E.g. pass `IMTLL` or `Mean()`."))
        # In a tuple, so that the original does not become a part of this module.
        self._source: tuple[Any] = (scalarizer,)

    def build(self) -> nn.Module:
        """Copy the scalarizer, or make one.

        Returns:
            A new scalarizer.

        Raises:
            InputError: If something else was made.
        """
        (source,) = self._source
        made = copy.deepcopy(source) if isinstance(source, nn.Module) else source(self.num_losses)
        if not isinstance(made, require("torchjd.scalarization", extra="experiments").Scalarizer):
            rule, cure = "`scalarizer` must make a `torchjd.scalarization.Scalarizer`.", "E.g. pass `IMTLL`."
            raise InputError(explain(rule, f"It made a `{type(made).__name__}`.", cure))
        return cast("nn.Module", made)
