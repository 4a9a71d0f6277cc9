"""Gradient cosine similarity: use an auxiliary loss where its gradient agrees with the main one."""

from typing import final

import torch
from torch import Tensor

from auxilearn import _checks
from auxilearn.weighting._base import Weighting
from auxilearn.weighting._step import Step


@final
class GCS(Weighting):
    r"""Weigh each auxiliary loss by how its gradient points along the main one's.

    .. math:: w_k = s\,\mathbb 1[c_k > 0] \quad\text{or}\quad w_k = s \max(0, c_k), \qquad
        c_k = \frac{\langle g_{\text{main}}, g_k \rangle}{\lVert g_{\text{main}} \rVert \lVert g_k \rVert}

    The gradients are those of the shared weights, of this batch alone; the main loss has weight 1. A loss whose
    gradient is zero has :math:`c_k = 0`. In the paper the heads of the auxiliary tasks train whatever the cosine is;
    here a weight of zero stops them too, because a weight belongs to a loss.

    Args:
        weighted: Whether to multiply by the cosine (the paper's weighted version), or to use the loss in full (its
            unweighted version).
        scale: :math:`s`.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If ``scale`` is not positive.

    Example:
        >>> w = torch.zeros(2, requires_grad=True)
        >>> losses = torch.stack([w[0], 3 * w[0] + 4 * w[1], w[1] - w[0]])
        >>> step = Step(losses, (w,), number=0, main=0, learning_rate=0.1)
        >>> for weighting in (GCS(), GCS(weighted=True)):
        ...     weighting.prepare(num_losses=3, main=0, steps=1)
        ...     weighting.weights(step)
        tensor([1., 1., 0.])
        tensor([1.0000, 0.6000, 0.0000])

    References:
        Du et al., "Adapting Auxiliary Losses Using Gradient Similarity", 2018, arXiv:1812.02224, Alg. 1 and 2.
    """

    def __init__(self, *, weighted: bool = False, scale: float = 1.0, normalise: bool = False) -> None:
        super().__init__(normalise=normalise)
        _checks.positive("scale", scale)
        self.weighted = weighted
        self.scale = scale

    def _weigh(self, step: Step, /) -> Tensor:
        unit = torch.nn.functional.normalize(step.shared_gradients(), dim=1, eps=0.0).nan_to_num(nan=0.0)
        cosine = (unit @ unit[step.main]).clamp(0.0, 1.0)
        weights = self.scale * (cosine if self.weighted else (cosine > 0).to(cosine))
        weights[step.main] = 1.0
        return weights.to(step.losses.dtype)
