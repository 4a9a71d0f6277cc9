"""What a loss combiner is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from auxilearn import _checks
from auxilearn.combiners._losses import check_losses, check_main, loss_axis


class LossCombiner(nn.Module, ABC):
    r"""A learnable map from the losses of all tasks to the one scalar that is trained on.

    .. math:: L_T = g(\ell_1, \dots, \ell_K; \varphi) \;[\, + \bar\ell_{\text{main}} \,]

    Subclasses implement ``_combine``, which receives validated losses; build its weights with :class:`Positive` if no
    loss shall ever be rewarded for growing. It must be twice differentiable, and change nothing.

    Losses below the precision of the parameters are promoted to it, and autocast is off inside: the arithmetic is a few
    numbers a sample, and what it rounds away would be missing from every gradient.

    Args:
        num_losses: :math:`K`.
        main: The index of the main loss, to add its mean to the combined loss (a skip connection); None adds nothing.
            With it, the main loss counts with 1 plus whatever the combiner gives it.
        check_finite: Whether each call looks for NaN and infinities. On a GPU that waits for the losses to be computed;
            turn it off to save the wait, or where a ``GradScaler`` is to deal with overflow.
        ndims: The numbers of dimensions that ``_combine`` understands.

    Raises:
        InputError: If ``num_losses`` or ``main`` is out of range.

    Example:
        >>> class Hardest(LossCombiner):
        ...     def _combine(self, losses):
        ...         return losses.amax(1).mean()
        >>> Hardest(num_losses=2)(torch.tensor([[1.0, 2.0], [4.0, 3.0]]))
        tensor(3.)

    References:
        Navon et al., "Auxiliary Learning by Implicit Differentiation", ICLR 2021: the auxiliary network g(·; φ).
    """

    def __init__(
        self, num_losses: int, *, main: int | None = None, check_finite: bool = True, ndims: Sequence[int] = (1, 2)
    ) -> None:
        super().__init__()
        _checks.count("num_losses", num_losses, 1)
        if main is not None:
            check_main("main", main, num_losses)
        self.num_losses = num_losses
        self.main = main
        self.check_finite = check_finite
        self.ndims = tuple(ndims)

    @final
    def forward(self, losses: Tensor, /) -> Tensor:
        r"""Combine the losses.

        Args:
            losses: ``(B, K)`` for each sample, ``(K,)`` if already averaged, or ``(B, K, H, W)`` for each pixel; a
                combiner may understand only some of them. They need not be positive.

        Returns:
            The combined loss, a scalar.

        Raises:
            InputError: If the losses have the wrong shape or type, are empty, or are not finite; then the message names
                the ones to blame.
        """
        check_losses(losses, self.num_losses, self.ndims, finite=self.check_finite)
        with torch.autocast(losses.device.type, enabled=False):
            for parameter in self.parameters():
                losses = losses.to(torch.promote_types(losses.dtype, parameter.dtype))
            combined = self._combine(losses)
            if self.main is not None:
                combined = combined + losses.select(loss_axis(losses), self.main).mean()
        return combined

    @abstractmethod
    def _combine(self, losses: Tensor, /) -> Tensor: ...

    def weights_at(self, losses: Tensor, /) -> Tensor:
        r"""Say how much each loss counts at present: the derivative of the combined loss.

        .. math:: w_k = \sum_i \frac{\partial L_T}{\partial \ell_{ik}}

        For a linear combiner these are its weights, plus 1 for a main loss that is added; for the others they depend on
        the losses.

        Args:
            losses: As for a call.

        Returns:
            One number for each loss, ``(K,)``, without a graph.

        Example:
            >>> from auxilearn.combiners import Linear
            >>> Linear(3, main=0).weights_at(torch.rand(8, 3))
            tensor([2., 1., 1.])
        """
        with torch.enable_grad():
            leaf = losses.detach().requires_grad_()
            (slopes,) = torch.autograd.grad(self(leaf), leaf)
        return slopes.movedim(loss_axis(slopes), 0).reshape(self.num_losses, -1).sum(1)

    def extra_repr(self) -> str:
        """Describe the combiner in one line.

        Returns:
            Its settings.
        """
        return f"num_losses={self.num_losses}, main={self.main}"
