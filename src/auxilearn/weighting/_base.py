"""What a weighting is."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

from torch import Tensor, nn

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn.combiners._losses import check_main
from auxilearn.errors import InputError
from auxilearn.weighting._step import Step


class Weighting(nn.Module, ABC):
    r"""A rule that chooses, step by step, how much each loss counts.

    .. math:: L_T = \sum_k w_k\, \ell_k

    A training loop calls :meth:`prepare` once, and then at each step :meth:`weights` once, moves the network's weights
    along the gradient of the weighted sum, and calls :meth:`after`. A rule that learns does so inside those two calls.
    Its state lies in ``state_dict()``: prepare a new object, load the state, and training goes on exactly as before.

    Subclasses implement ``_weigh``, which receives a step that fits, and allocate their state in :meth:`allocate`.

    Args:
        normalise: Whether the training loop is to divide each loss by its initial value. None of the papers does; it
            helps where the losses have different scales.

    Example:
        >>> import torch
        >>> class Smallest(Weighting):
        ...     def _weigh(self, step):
        ...         return (step.losses == step.losses.min()).to(step.losses).detach()
        >>> w = torch.ones(2, requires_grad=True)
        >>> weighting = Smallest()
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> weighting.weights(Step(torch.stack([w.sum(), w[0]]), (w,), number=0, main=0, learning_rate=0.1))
        tensor([0., 1.])
    """

    num_losses: int
    main: int
    steps: int

    def __init__(self, *, normalise: bool = False) -> None:
        super().__init__()
        self.normalise = normalise
        self.num_losses, self.main, self.steps = 0, 0, 0

    def prepare(self, num_losses: int, main: int, steps: int) -> None:
        """Forget everything, and allocate the state for a training run.

        Args:
            num_losses: K, with the main loss.
            main: The index of the main loss.
            steps: The steps of the training run.

        Raises:
            InputError: If an argument is out of range, or does not fit the settings.
        """
        _checks.count("num_losses", num_losses, 1)
        check_main("main", main, num_losses)
        _checks.count("steps", steps, 1)
        self.num_losses, self.main, self.steps = num_losses, main, steps
        self.allocate()

    def allocate(self) -> None:
        """Allocate the state for ``self.num_losses`` losses; called by :meth:`prepare`."""

    @final
    def weights(self, step: Step, /) -> Tensor:
        """Choose the weights of a step; called once a step, before the network moves.

        Args:
            step: The step.

        Returns:
            The weights, ``(K,)``, without a graph.

        Raises:
            InputError: If the step does not fit, e.g. has another number of losses than was prepared for, or the rule
                finds no finite weights for it.
        """
        self._check(step)
        return self._weigh(step)

    @abstractmethod
    def _weigh(self, step: Step, /) -> Tensor: ...

    def after(self, step: Step, losses: Callable[[], Tensor], /) -> None:
        """Look at what the step did; called once a step, after the network moved.

        Args:
            step: The step that :meth:`weights` saw. Its graph may have been freed; gradients that were computed stay.
            losses: Computes the losses of the same batch anew, ``(K,)``, with the weights as they are now.
        """

    def _check(self, step: Step, /) -> None:
        """Check that a step is of the training run that was prepared for.

        Args:
            step: The step.

        Raises:
            InputError: If :meth:`prepare` was not called, or the numbers of losses or the main losses differ.
        """
        if not self.num_losses:
            cure = "Call `prepare(num_losses, main, steps)` before the first step."
            raise InputError(explain("A weighting must be prepared.", "It was not.", cure))
        if len(step.losses) != self.num_losses or step.main != self.main:
            rule = f"This weighting was prepared for {self.num_losses} losses, of which {self.main} is the main one."
            finding = f"The step has {len(step.losses)}, and {step.main} is the main one."
            raise InputError(explain(rule, finding, "Call `prepare` with what the losses are."))
