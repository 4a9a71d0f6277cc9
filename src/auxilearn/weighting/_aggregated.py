"""The weights that an aggregation of gradients amounts to, from their Gramian."""

import copy
from abc import ABC, abstractmethod
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn._extras import require
from auxilearn.errors import InputError
from auxilearn.weighting._base import Weighting
from auxilearn.weighting._memory import make_room, recall, remember
from auxilearn.weighting._step import Step


class AggregatedWeighting(Weighting, ABC):
    r"""A weighting that follows a Gramian weighting of TorchJD.

    .. math:: w = A(G), \qquad G_{ij} = \langle g_i, g_j \rangle

    The gradients are those of the weights that all losses share. The papers leave the heads to the plain sum of the
    losses; here a head is weighted as its loss is, because a weight belongs to a loss. The papers scale w differently:
    each class says what its weights sum to. A loss whose gradient is zero, e.g. for want of a label in the batch, takes
    no part and has the weight 0: MGDA would give it everything, and stop.

    Subclasses implement :meth:`build`.

    Args:
        seed: Where randomness starts; step t draws from seed + t, and the global random state is left alone.
        stateful: Whether the weighting of Gramians remembers something of each loss. It is then shown all of them, also
            those whose gradient is zero.
        scale_free: Whether a factor of G changes nothing, so that G may be divided by its trace. TorchJD takes small
            gradients for zero: below a trace of 1e-4 its CAGrad would stop, and its UPGrad see no conflicts.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If ``seed`` is negative.
    """

    aggregator: nn.Module

    def __init__(
        self, *, seed: int = 0, stateful: bool = False, scale_free: bool = True, normalise: bool = False
    ) -> None:
        super().__init__(normalise=normalise)
        _checks.count("seed", seed, 0)
        self.seed = seed
        self.stateful = stateful
        self.scale_free = scale_free
        self.register_load_state_dict_pre_hook(make_room)

    @abstractmethod
    def build(self) -> nn.Module:
        """Build a new weighting of Gramians.

        Returns:
            A ``torchjd.aggregation.Weighting``.
        """

    def allocate(self) -> None:
        """Build the weighting of Gramians."""
        self.aggregator = self.build()

    def _weigh(self, step: Step, /) -> Tensor:
        whole = step.gramian()
        alive = torch.ones_like(whole[0], dtype=torch.bool) if self.stateful else whole.diagonal() > 0
        gramian = whole[alive][:, alive]
        result = torch.zeros_like(step.losses.detach())
        if not len(gramian):
            return result
        if self.scale_free:
            gramian = gramian / gramian.diagonal().sum()
        # TorchJD draws on the CPU; `torch.manual_seed` would seed every device.
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(self.seed + step.number)
            weights = cast("Tensor", self.aggregator(gramian))
        if weights.shape != gramian[0].shape or not bool(weights.isfinite().all()):
            rule = f"`{type(self.aggregator).__name__}` must return {len(gramian)} finite weights."
            finding = f"For the Gramian {gramian.tolist()} they are {weights.tolist()}."
            raise InputError(explain(rule, finding, "Is it a weighting of Gramians, and are the gradients sane?"))
        result[alive] = weights.to(result)
        return result

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the weighting of Gramians remembers, for ``state_dict()``.

        Returns:
            The state; empty before :meth:`prepare`.
        """
        return remember(self.aggregator) if self.num_losses else {}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore it, for ``load_state_dict()``.

        Args:
            state: What :meth:`get_extra_state` returned.
        """
        if self.num_losses:
            recall(self.aggregator, state)


@final
class Aggregated(AggregatedWeighting):
    r"""Weights by any Gramian weighting of TorchJD; those with a name here are :class:`MGDA` and its neighbours.

    .. math:: w = A(G), \qquad G_{ij} = \langle g_i, g_j \rangle

    Args:
        weighting: A ``torchjd.aggregation.Weighting`` that takes a Gramian, such as ``DualProjWeighting()``; it is
            copied.
        seed: Where randomness starts; step t draws from seed + t.
        stateful: Whether it remembers something of each loss, as ``GradVacWeighting`` does. It is then shown all losses
            in every step; otherwise those whose gradient is zero take no part, and have the weight 0.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If ``weighting`` is something else, or ``seed`` is negative.
        MissingExtraError: If TorchJD is not installed.

    Example:
        >>> from torchjd.aggregation import MeanWeighting
        >>> w = torch.ones(2, requires_grad=True)
        >>> weighting = Aggregated(MeanWeighting())
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> weighting.weights(Step(torch.stack([w.sum(), w[0]]), (w,), number=0, main=0, learning_rate=0.1))
        tensor([0.5000, 0.5000])

    References:
        TorchJD, ``torchjd.aggregation``, https://torchjd.org.
    """

    def __init__(self, weighting: nn.Module, *, seed: int = 0, stateful: bool = False, normalise: bool = False) -> None:
        super().__init__(seed=seed, stateful=stateful, scale_free=False, normalise=normalise)
        wanted = require("torchjd.aggregation", extra="experiments").Weighting
        if not isinstance(cast("object", weighting), wanted):
            # An `Aggregator` would take the Gramian for a Jacobian, and say nothing.
            rule = "`weighting` must be a `torchjd.aggregation.Weighting` of Gramians."
            cure = "Pass e.g. `MGDAWeighting()`, not `MGDA()`."
            raise InputError(explain(rule, f"It is a `{type(weighting).__name__}`.", cure))
        self._source: tuple[nn.Module] = (weighting,)  # not a part of this module

    def build(self) -> nn.Module:
        """Copy the weighting of Gramians.

        Returns:
            A copy.
        """
        return copy.deepcopy(self._source[0])
