"""What a weighting may look at: one training step, with gradients that are computed when asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import cast, final

import torch
from torch import Tensor

from auxilearn import _autograd, _checks, _ranks
from auxilearn._checks import explain
from auxilearn.combiners._losses import check_losses, check_main
from auxilearn.errors import InputError


@final
@dataclass(frozen=True, eq=False)
class Step:
    r"""One step of training, before the weights move.

    Gradients cost one backward pass a loss. They are computed at the first call and kept; the graph of ``losses`` is
    retained, so that the training loop can still call ``backward``.

    Args:
        losses: The mean losses with their graph, ``(K,)``. A loss that has no row in this batch is 0.
        params: The weights :math:`W` that are trained.
        number: The number of the step, from 0.
        main: The index of the main loss.
        learning_rate: The learning rate of this step.
        outer: Computes the main loss, with its graph, on another training batch with the weights as they are at the
            call, leaving no trace in the model (see :func:`auxilearn.safety.second_order`); None if there is none.

    Raises:
        InputError: If ``losses`` is not a finite tensor of shape ``(K,)``, ``main`` is out of range, ``params`` is
            empty, ``number`` is negative, or ``learning_rate`` is negative or not finite.

    Example:
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> step = Step(torch.stack([w.sum(), w[0] * w[1]]), (w,), number=0, main=0, learning_rate=0.1)
        >>> step.gradients()
        tensor([[1., 1.],
                [2., 1.]])
        >>> step.gramian()
        tensor([[2., 3.],
                [3., 5.]])
    """

    losses: Tensor
    params: tuple[Tensor, ...]
    number: int
    main: int
    learning_rate: float
    outer: Callable[[], Tensor] | None = None

    def __post_init__(self) -> None:
        # There are as many losses as there are; what `check_losses` looks at besides is their type, shape and values.
        found = self.losses.shape[0] if self.losses.ndim == 1 else 1
        check_losses(self.losses, found, (1,))
        check_main("main", self.main, found)
        _checks.tensors("params", self.params)
        _checks.count("number", self.number, 0)
        _checks.at_least("learning_rate", self.learning_rate, 0.0)

    def gradients(self) -> Tensor:
        r"""Return the gradient of every loss, :math:`\partial_W \ell_k`.

        Returns:
            Flat, one row a loss, ``(K, P)``, without a graph; zero where a loss does not reach a weight.

        Raises:
            InputError: If the graph of the losses was freed, a gradient is not finite, or there are several ranks that
                were not declared independent.
        """
        return self._jacobian

    def shared_gradients(self) -> Tensor:
        """Return the gradients with respect to the weights that more than one loss reaches: the network without heads.

        A weight counts as reached where the gradient is not zero, entry by entry: the graph of losses that were stacked
        cannot say more, and a last layer with a row for each loss has no weight that is shared. Where losses share
        nothing, all weights count.

        Returns:
            Flat, one row a loss, ``(K, S)``, without a graph.
        """
        return self._shared

    def last_shared_gradients(self) -> Tensor:
        """Return the gradients with respect to the last matrix (or kernel) that every loss reaches.

        Only its rows (or output channels) that every loss reaches count; a loss that reaches no weight at all is left
        out of account. The last one is the last in the order of ``params``, in which a network's layers were assigned
        to it. Where there is none, it is :meth:`shared_gradients`.

        Returns:
            Flat, one row a loss, ``(K, L)``, without a graph.
        """
        alive = (self._jacobian != 0).any(1)
        ends = accumulate(p.numel() for p in self.params)
        for p, end in reversed(list(zip(self.params, ends, strict=True))):
            if p.ndim < 2 or not bool(alive.any()):
                continue
            rows = self._jacobian[:, end - p.numel() : end].reshape(len(alive), p.shape[0], -1)
            common = (rows[alive] != 0).any(2).all(0)
            if bool(common.any()):
                return rows[:, common].flatten(1)
        return self.shared_gradients()

    def gramian(self) -> Tensor:
        r"""Return the inner products of the shared gradients, :math:`G = J J^\top`.

        Returns:
            Symmetric, ``(K, K)``, without a graph.
        """
        return self._gramian

    @cached_property
    def _jacobian(self) -> Tensor:
        _ranks.refuse_undeclared("A gradient for each loss", "Use a weighting that looks at losses only.")
        if not self.losses.requires_grad:
            cure = "Compute them with gradients enabled: no `.detach()` or `torch.no_grad()`."
            raise InputError(explain("`losses` must have a graph.", "They are cut from it.", cure))
        jacobian = self._at_once() if len(self.losses) > 1 else None
        if jacobian is None:
            rows = [_autograd.gradients(loss, self.params) for loss in self.losses]
            jacobian = torch.stack([_autograd.filled(row, self.params).flat() for row in rows])
        broken = [k for k, row in enumerate(jacobian) if not bool(row.isfinite().all())]
        if broken:
            finding = f"Those of the losses with index {broken} are not, though the losses are."
            cure = "Look for a square root or a norm at zero, or for overflow in half precision."
            raise InputError(explain("The gradients of the losses must be finite.", finding, cure))
        return jacobian

    def _at_once(self) -> Tensor | None:
        # One backward pass over a batch of K cotangents takes half the time of K passes; None where an operator's
        # derivative cannot be batched.
        seeds = torch.eye(len(self.losses), dtype=self.losses.dtype, device=self.losses.device)
        try:
            found = torch.autograd.grad(
                self.losses, self.params, seeds, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
        except RuntimeError:
            return None
        blocks = cast("tuple[Tensor | None, ...]", found)
        return torch.cat(
            [
                torch.zeros(len(seeds), p.numel(), dtype=p.dtype, device=p.device) if g is None else g.flatten(1)
                for p, g in zip(self.params, blocks, strict=True)
            ],
            dim=1,
        )

    @cached_property
    def _shared(self) -> Tensor:
        shared = (self._jacobian != 0).sum(0) >= 2
        return self._jacobian[:, shared] if bool(shared.any()) else self._jacobian

    @cached_property
    def _gramian(self) -> Tensor:
        shared = self.shared_gradients()
        return shared @ shared.T
