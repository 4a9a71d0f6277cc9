"""Scalarizers of TorchJD by the names of their papers."""

from typing import Any, final

from torch import nn

from auxilearn import _checks
from auxilearn._extras import require
from auxilearn.weighting._scalarized import ScalarizedWeighting


def _torchjd() -> Any:
    return require("torchjd.scalarization", extra="experiments")


@final
class Uncertainty(ScalarizedWeighting):
    r"""Weigh each loss by a learned uncertainty.

    .. math:: S = \sum_k \tfrac12 e^{-s_k} \ell_k + \tfrac12 s_k, \qquad w_k = \tfrac12 e^{-s_k}

    Args:
        lr: The learning rate of s; None takes that of the training step, as the paper does.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If ``lr`` is not positive.
        MissingExtraError: If TorchJD is not installed.

    Example:
        >>> import torch
        >>> from auxilearn.weighting import Step
        >>> w = torch.ones(2, requires_grad=True)
        >>> weighting = Uncertainty()
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> weighting.weights(Step(w * w, (w,), number=0, main=0, learning_rate=0.1))
        tensor([0.5000, 0.5000])

    References:
        Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
        Semantics", CVPR 2018, Sec. 3.2; ``torchjd.scalarization.UW``.
    """

    def __init__(self, *, lr: float | None = None, normalise: bool = False) -> None:
        super().__init__(lr=lr, epoch=1, normalise=normalise)
        _torchjd()

    def build(self) -> nn.Module:
        """Build the scalarizer.

        Returns:
            ``torchjd.scalarization.UW``.
        """
        return _torchjd().UW(self.num_losses)


@final
class IMTLL(ScalarizedWeighting):
    r"""Scale each loss toward 1 by a learned factor.

    .. math:: S = \sum_k e^{s_k} \ell_k - s_k, \qquad w_k = e^{s_k} \to 1 / \ell_k

    It is :class:`Uncertainty` with the sign of s turned and twice the weights.

    Args:
        lr: The learning rate of s; None takes that of the training step, as the paper does.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If ``lr`` is not positive.
        MissingExtraError: If TorchJD is not installed.

    Example:
        >>> import torch
        >>> from auxilearn.weighting import Step
        >>> w = torch.ones(2, requires_grad=True)
        >>> weighting = IMTLL()
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> weighting.weights(Step(w * w, (w,), number=0, main=0, learning_rate=0.1))
        tensor([1., 1.])

    References:
        Liu et al., "Towards Impartial Multi-Task Learning", ICLR 2021, Sec. 3.2; ``torchjd.scalarization.IMTLL``.
    """

    def __init__(self, *, lr: float | None = None, normalise: bool = False) -> None:
        super().__init__(lr=lr, epoch=1, normalise=normalise)
        _torchjd()

    def build(self) -> nn.Module:
        """Build the scalarizer.

        Returns:
            ``torchjd.scalarization.IMTLL``.
        """
        return _torchjd().IMTLL(self.num_losses)


@final
class DWA(ScalarizedWeighting):
    r"""Dynamic weight average: more weight for a loss that falls more slowly.

    .. math:: w_k = K \operatorname{softmax}_k(r / T), \qquad r_k = \frac{L_k(t-1)}{L_k(t-2)}

    with the mean losses L of the last two epochs; equal weights before there are two.

    Args:
        temperature: T; large values make the weights equal.
        epoch: The steps that count as an epoch. Few steps make a noisy ratio.
        normalise: See :class:`Weighting`; it changes nothing but the scale of the total.

    Raises:
        InputError: If an argument is not positive.
        MissingExtraError: If TorchJD is not installed.

    Example:
        >>> import torch
        >>> from auxilearn.weighting import Step
        >>> w = torch.ones(2, requires_grad=True)
        >>> weighting = DWA()
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> weighting.weights(Step(w * w, (w,), number=0, main=0, learning_rate=0.1))
        tensor([1., 1.])

    References:
        Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, Eq. (7);
        ``torchjd.scalarization.DWA``.
    """

    def __init__(self, *, temperature: float = 2.0, epoch: int = 25, normalise: bool = False) -> None:
        super().__init__(lr=None, epoch=epoch, normalise=normalise)
        _checks.positive("temperature", temperature)
        _torchjd()
        self.temperature = temperature

    def build(self) -> nn.Module:
        """Build the scalarizer.

        Returns:
            ``torchjd.scalarization.DWA``.
        """
        return _torchjd().DWA(self.temperature)


@final
class FAMO(ScalarizedWeighting):
    r"""Lower the logarithms of all losses at the same rate, knowing only the losses.

    .. math:: w_k = c\, \frac{z_k}{\ell_k}, \qquad z = \operatorname{softmax}(\xi), \qquad
        c = 1 \Big/ \sum_i \frac{z_i}{\ell_i}

    After each step :math:`\xi` moves against how much each :math:`\log \ell_k` fell on the same batch, at the cost of
    one more forward pass. Losses must not be negative; one that is 0 takes nearly all the weight from the others.

    Args:
        lr: Adam's learning rate for :math:`\xi`; the paper's.
        weight_decay: The decay of :math:`\xi`; the paper's.
        normalise: See :class:`Weighting`; a factor changes the weights, but not how :math:`\xi` moves.

    Raises:
        InputError: If ``lr`` is not positive, or ``weight_decay`` negative.
        MissingExtraError: If TorchJD is not installed.

    Example:
        >>> import torch
        >>> from auxilearn.weighting import Step
        >>> w = torch.tensor([1.0, 3.0], requires_grad=True)
        >>> weighting = FAMO()
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> weighting.weights(Step(1 * w, (w,), number=0, main=0, learning_rate=0.1))
        tensor([0.7500, 0.2500])

    References:
        Liu et al., "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023, Alg. 2; ``torchjd.scalarization.FAMO``.
    """

    def __init__(self, *, lr: float = 0.025, weight_decay: float = 1e-3, normalise: bool = False) -> None:
        super().__init__(lr=lr, epoch=1, normalise=normalise)
        _checks.at_least("weight_decay", weight_decay, 0.0)
        _torchjd()
        self.weight_decay = weight_decay

    def build(self) -> nn.Module:
        """Build the scalarizer.

        Returns:
            ``torchjd.scalarization.FAMO``.
        """
        return _torchjd().FAMO(self.num_losses, lr=self.lr, weight_decay=self.weight_decay)
