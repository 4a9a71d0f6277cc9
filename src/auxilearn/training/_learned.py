"""The settings of learned combination: which combiner, judged on what, stepped how."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast, final

from torch import nn
from torch.optim import Optimizer

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn.combiners import Linear, LossCombiner
from auxilearn.errors import InputError
from auxilearn.solvers import Identity, LinearSolver
from auxilearn.solvers._base import checked
from auxilearn.training._outer_adam import OuterAdam


def weights_up_to_three(num_losses: int) -> LossCombiner:
    """Build the default combiner, a weight for each loss that starts at 1 and stays below 3.

    Above that a loss drowns the main one; on our problems a cap of 10 gained nothing and lost where all losses help.

    Args:
        num_losses: The number of auxiliary losses.

    Returns:
        The combiner.
    """
    return Linear(num_losses, cap=3.0)


@final
@dataclass(frozen=True)
class CrossFit:
    """K models, each judged on a fold of the main labels that it does not train on; they share the combiner.

    No label is lost: after the search a fresh model trains on all of them. The combiner sees how the main loss of
    labels that were not trained on responds, which matters where the model memorises its labels at once.

    Attributes:
        folds: K. The folds are stratified if the problem has ``logits``.

    Raises:
        InputError: If there are fewer than two folds.
    """

    folds: int = 5

    def __post_init__(self) -> None:
        _checks.count("folds", self.folds, 2)


@final
@dataclass(frozen=True)
class HeldOut:
    """One model, judged on main labels that are held out for good.

    Half of them are the outer set; the other half only watches it, so that overfitting is seen.

    Attributes:
        share: The share of the main labels held out.

    Raises:
        InputError: If it is not between 0 and 1.
    """

    share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            rule = "`share` must be above 0 and below 1."
            raise InputError(explain(rule, f"It is {self.share}.", "Try 0.2."))


@final
@dataclass(frozen=True)
class SecondBatch:
    """One model, judged on a second batch of its own training labels; no label is lost.

    By itself it cannot tell memorised from understood: where all auxiliary losses are useless it does harm. The gate
    can: it repeats the training on the other folds of the main labels, and looks at the fold left out, which nothing
    in that training has seen.

    Attributes:
        folds: How many folds the gate uses.

    Raises:
        InputError: If there are fewer than two folds.
    """

    folds: int = 5

    def __post_init__(self) -> None:
        _checks.count("folds", self.folds, 2)


OuterPolicy = CrossFit | HeldOut | SecondBatch


@final
@dataclass(frozen=True)
class Learned:
    r"""Learn how to combine the auxiliary losses while training, by implicit differentiation.

    .. math:: L_T = \frac{\bar\ell_{\text{main}}}{s_{\text{main}}} + g\left(\frac{\ell_k}{s_k}; \varphi\right), \qquad
        \varphi \leftarrow \varphi - \eta\, \frac{d L_A}{d \varphi}

    with the losses' initial values :math:`s` as units, and the main loss on held-back labels as the outer loss
    :math:`L_A`. The main loss keeps weight 1, for only the ratio of the weights matters.

    Attributes:
        combiner: A function of the number of auxiliary losses that builds :math:`g`. While the gate's models train, a
            combiner that reads samples is shown rows of zeros for those that a model must not see.
        outer: Where the outer loss comes from.
        refit: Whether a fresh model is trained on all main labels with the combiner that was found, averaged over time;
            without it the model of the search is the result. Not for ``SecondBatch``, which holds no label out.
        gate: Whether out-of-fold losses decide between the main loss alone and the learned combiner. Not for
            ``HeldOut``, whose held-out labels are too few to decide on.
        threshold: By how many standard errors the learned combiner must be better than the main loss alone. Useless
            losses do harm even when they are learned to weigh little, so that 0 tells them from useful ones: of 80
            problems with useless losses one passed, at 0 and at 0.5. With 50 labels a threshold of 1 rejected one in
            eight gains of ten points.
        every: Inner steps between two outer ones.
        warmup: Inner steps before the first outer one.
        optimizer: A function of the combiner's parameters that builds the outer optimizer.
        solver: The method for the inverse-Hessian-vector product. For weights of whole losses H = I is as good as any
            in our measurements, and the cheapest; where the inner problem is solved to convergence, curvature decides.
        average_from: The share of the outer steps after which the combiner enters the time average.

    Raises:
        InputError: If a number is out of range, a setting is of the wrong kind, or ``CrossFit`` is to do without refit.

    Example:
        >>> Learned().outer
        SecondBatch(folds=5)
        >>> Learned.fast().gate
        False

    References:
        Navon et al., "Auxiliary Learning by Implicit Differentiation", ICLR 2021, Eq. (4); Shamsian et al., "Auxiliary
        Learning as an Asymmetric Bargaining Game", ICML 2023, for the second batch.
    """

    combiner: Callable[[int], LossCombiner] = weights_up_to_three
    outer: OuterPolicy = field(default_factory=SecondBatch)
    refit: bool = True
    gate: bool = True
    threshold: float = 0.0
    every: int = 10
    warmup: int = 50
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = OuterAdam
    solver: LinearSolver = field(default_factory=Identity)
    average_from: float = 0.25

    def __post_init__(self) -> None:
        for name, given in (("combiner", self.combiner), ("optimizer", self.optimizer)):
            _check_builder(name, given)
        if not isinstance(cast("object", self.outer), (CrossFit, HeldOut, SecondBatch)):
            rule = "`outer` must be `CrossFit()`, `HeldOut()` or `SecondBatch()`."
            found = cast("object", self.outer)
            finding = "It is a class." if isinstance(found, type) else f"It is a `{type(found).__name__}`."
            raise InputError(explain(rule, finding, "Call the class: `outer=HeldOut()`."))
        checked(self.solver)
        _checks.count("every", self.every, 1)
        _checks.count("warmup", self.warmup, 0)
        _checks.at_least("threshold", self.threshold, 0.0)
        if not 0 <= self.average_from < 1:
            rule = "`average_from` must be at least 0 and below 1."
            raise InputError(explain(rule, f"It is {self.average_from}.", "Try 0.25."))
        if isinstance(self.outer, CrossFit) and not self.refit:
            rule = "`CrossFit` leaves K models and no single one, so it needs `refit=True`."
            raise InputError(explain(rule, "It is False.", "Use `HeldOut` or `SecondBatch` to keep the search model."))

    def due(self, number: int) -> bool:
        """Say whether an outer step comes before an inner one.

        Args:
            number: The number of the inner step, from 0.

        Returns:
            Whether it does.
        """
        return number >= self.warmup and (number - self.warmup) % self.every == 0

    @staticmethod
    def fast() -> "Learned":
        """Return the cheap policy: a second train batch and no gate; less than two plain training runs.

        Returns:
            The settings.
        """
        return Learned(outer=SecondBatch(), gate=False)


def _check_builder(name: str, given: object) -> None:
    if isinstance(given, (nn.Module, Optimizer)) or not callable(given):
        cures = {"combiner": "Pass the class, `MLP`, or `lambda k: MLP(k, hidden=(4,))`."}
        cure = cures.get(name, "Pass the class, or `lambda phi: Adam(phi, lr=0.05)`.")
        rule = f"`{name}` must be a function that builds one, since there are several of them."
        raise InputError(explain(rule, f"It is a `{type(given).__name__}`.", cure))
