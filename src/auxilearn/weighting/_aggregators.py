"""Gramian weightings of TorchJD by the names of their papers."""

from typing import Any, final

from torch import nn

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn._extras import require
from auxilearn.errors import MissingExtraError
from auxilearn.weighting._aggregated import AggregatedWeighting


def _torchjd() -> Any:
    return require("torchjd.aggregation", extra="experiments")


def _built(name: str, /, **settings: Any) -> nn.Module:
    try:
        return getattr(_torchjd(), name)(**settings)
    except MissingExtraError:
        raise
    except ImportError as error:
        # Some weightings of TorchJD need a solver that is an extra of TorchJD.
        cure = "Run `pip install 'auxilearn[experiments]'`, or `pip install '.[experiments]'` in a checkout."
        raise MissingExtraError(explain("This needs the extra `experiments`.", str(error), cure)) from error


@final
class MGDA(AggregatedWeighting):
    r"""Multiple gradient descent: the shortest convex combination of the gradients.

    .. math:: w = \arg\min_{w \ge 0,\, \sum_k w_k = 1} w^\top G\, w

    The weights sum to 1. The loss with the shortest gradient gets most of it; see ``normalise``.

    Args:
        tolerance: The Frank-Wolfe step below which the search ends.
        max_steps: The most Frank-Wolfe steps.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If an argument is not positive.
        MissingExtraError: If TorchJD is not installed.

    Example:
        >>> import torch
        >>> from auxilearn.weighting import Step
        >>> w = torch.zeros(2, requires_grad=True)
        >>> weighting = MGDA()
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> weighting.weights(Step(torch.tensor([1.0, 2.0]) * w, (w,), number=0, main=0, learning_rate=0.1))
        tensor([0.8000, 0.2000])

    References:
        Désidéri, "Multiple-gradient descent algorithm", C. R. Math. 2012; Sener and Koltun, "Multi-Task Learning as
        Multi-Objective Optimization", NeurIPS 2018, Alg. 2; ``torchjd.aggregation.MGDAWeighting``.
    """

    def __init__(self, *, tolerance: float = 1e-3, max_steps: int = 100, normalise: bool = False) -> None:
        super().__init__(seed=0, normalise=normalise)
        _checks.positive("tolerance", tolerance)
        _checks.count("max_steps", max_steps, 1)
        self.tolerance, self.max_steps = tolerance, max_steps
        self.build()

    def build(self) -> nn.Module:
        """Build the weighting of Gramians.

        Returns:
            ``torchjd.aggregation.MGDAWeighting``.
        """
        return _built("MGDAWeighting", epsilon=self.tolerance, max_iters=self.max_steps)


@final
class PCGrad(AggregatedWeighting):
    r"""Gradient surgery: take from each gradient what points against another.

    .. math:: g_i \leftarrow g_i - \frac{\min(0, \langle g_i, g_j \rangle)}{\lVert g_j \rVert^2}\, g_j
        \quad\text{for all } j \ne i \text{ in random order}

    The weights are those of the sum of the results: all 1 where nothing conflicts.

    Args:
        seed: The seed of the orders; step t draws from seed + t.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If ``seed`` is negative.
        MissingExtraError: If TorchJD is not installed.

    Example:
        >>> import torch
        >>> from auxilearn.weighting import Step
        >>> w = torch.zeros(2, requires_grad=True)
        >>> weighting = PCGrad()
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> losses = torch.stack([w[0] + w[1], w[1] / 2 - w[0]])
        >>> weighting.weights(Step(losses, (w,), number=0, main=0, learning_rate=0.1))
        tensor([1.2500, 1.4000])

    References:
        Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, Alg. 1;
        ``torchjd.aggregation.PCGradWeighting``.
    """

    def __init__(self, *, seed: int = 0, normalise: bool = False) -> None:
        super().__init__(seed=seed, normalise=normalise)
        self.build()

    def build(self) -> nn.Module:
        """Build the weighting of Gramians.

        Returns:
            ``torchjd.aggregation.PCGradWeighting``.
        """
        return _built("PCGradWeighting")


@final
class CAGrad(AggregatedWeighting):
    r"""Conflict-averse descent: near the mean gradient, lower the loss that falls least as fast as possible.

    .. math:: \max_d \min_k \langle g_k, d \rangle \quad\text{with}\quad \lVert d - g_0 \rVert \le c \lVert g_0 \rVert,
        \qquad g_0 = \operatorname{mean}_k g_k

    The weights are those of :math:`d`: 1/K each, and more for those that fall least. The authors' code divides by
    :math:`1 + c^2` and multiplies by K, which is not done here.

    Args:
        c: The radius, in units of the mean gradient; 0 takes the mean.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If ``c`` is negative.
        MissingExtraError: If TorchJD, or its extra ``cagrad``, is not installed.

    Example:
        >>> import torch
        >>> from auxilearn.weighting import Step
        >>> w = torch.zeros(2, requires_grad=True)
        >>> weighting = CAGrad(c=0.0)  # doctest: +SKIP
        >>> weighting.prepare(num_losses=2, main=0, steps=1)  # doctest: +SKIP
        >>> weighting.weights(Step(1 * w, (w,), number=0, main=0, learning_rate=0.1))  # doctest: +SKIP
        tensor([0.5000, 0.5000])

    References:
        Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", NeurIPS 2021, Alg. 1;
        ``torchjd.aggregation.CAGradWeighting``.
    """

    def __init__(self, *, c: float = 0.4, normalise: bool = False) -> None:
        super().__init__(seed=0, normalise=normalise)
        _checks.at_least("c", c, 0.0)
        self.c = c
        self.build()

    def build(self) -> nn.Module:
        """Build the weighting of Gramians.

        Returns:
            ``torchjd.aggregation.CAGradWeighting``.
        """
        return _built("CAGradWeighting", c=self.c)


@final
class IMTLG(AggregatedWeighting):
    r"""Impartial: a combination with the same projection on every gradient.

    .. math:: \Big\langle \sum_i w_i g_i,\; \frac{g_k}{\lVert g_k \rVert} \Big\rangle = \text{the same for all } k,
        \qquad \sum_k w_k = 1

    Weights may be negative, and are large where the solution's sum is small before it is scaled to 1.

    Args:
        normalise: See :class:`Weighting`; it changes nothing but the length of the step.

    Raises:
        MissingExtraError: If TorchJD is not installed.

    Example:
        >>> import torch
        >>> from auxilearn.weighting import Step
        >>> w = torch.zeros(2, requires_grad=True)
        >>> weighting = IMTLG()
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> weighting.weights(Step(torch.tensor([1.0, 3.0]) * w, (w,), number=0, main=0, learning_rate=0.1))
        tensor([0.7500, 0.2500])

    References:
        Liu et al., "Towards Impartial Multi-Task Learning", ICLR 2021, Sec. 3.1;
        ``torchjd.aggregation.IMTLGWeighting``.
    """

    def __init__(self, *, normalise: bool = False) -> None:
        super().__init__(seed=0, normalise=normalise)
        self.build()

    def build(self) -> nn.Module:
        """Build the weighting of Gramians.

        Returns:
            ``torchjd.aggregation.IMTLGWeighting``.
        """
        return _built("IMTLGWeighting")


@final
class UPGrad(AggregatedWeighting):
    r"""Project each gradient on the directions that raise no loss, and take the mean.

    .. math:: d = \tfrac1K \sum_k \pi(g_k), \qquad
        \pi(g) = \arg\min_v \lVert v - g \rVert \quad\text{with}\quad \langle g_i, v \rangle \ge 0 \text{ for all } i

    The weights are those of :math:`d`: 1/K each where nothing conflicts, more elsewhere.

    Args:
        normalise: See :class:`Weighting`.

    Raises:
        MissingExtraError: If TorchJD, or its extra ``quadprog-projector``, is not installed.

    Example:
        >>> import torch
        >>> from auxilearn.weighting import Step
        >>> w = torch.zeros(2, requires_grad=True)
        >>> weighting = UPGrad()  # doctest: +SKIP
        >>> weighting.prepare(num_losses=2, main=0, steps=1)  # doctest: +SKIP
        >>> weighting.weights(Step(1 * w, (w,), number=0, main=0, learning_rate=0.1))  # doctest: +SKIP
        tensor([0.5000, 0.5000])

    References:
        Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024, arXiv:2406.16232, Eq. (4);
        ``torchjd.aggregation.UPGradWeighting``.
    """

    def __init__(self, *, normalise: bool = False) -> None:
        super().__init__(seed=0, normalise=normalise)
        self.build()

    def build(self) -> nn.Module:
        """Build the weighting of Gramians.

        Returns:
            ``torchjd.aggregation.UPGradWeighting``.
        """
        return _built("UPGradWeighting")
