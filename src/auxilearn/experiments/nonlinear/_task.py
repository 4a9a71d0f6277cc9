"""Annotators who are right for some images and wrong for others, and losses that bound what a wrong label can do."""

from dataclasses import dataclass, replace
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from auxilearn.experiments.given._image_task import Dataset, image_task
from auxilearn.experiments.given._labels import mostly
from auxilearn.experiments.given._losses import ImageBatch, Sources, image_losses
from auxilearn.experiments.harness._experiment import AuxiliaryTask
from auxilearn.models import MLP
from auxilearn.training import Problem

_CHANCE = 0.1


@final
@dataclass(frozen=True)
class NoisyAnnotators:
    """Annotators label the pool for the main head; each is right for a share of the images, and nobody says which.

    Images are real, annotators are simulated. The network is a perceptron with one hidden layer, which can learn a
    thousand labels by heart.

    Attributes:
        dataset: ``"mnist"`` or ``"digits"``.
        shares: The share of right labels of each annotator; the others are uniformly wrong, so 0.1 is a guess.
        per_class: Main labels of each class.
        pool: Images that the annotators label.

    Example:
        >>> NoisyAnnotators("digits", (0.6, 0.1))(0).kinds
        ('main', '60 % right', '10 % right')
    """

    dataset: Dataset
    shares: tuple[float, ...]
    per_class: int = 5
    pool: int = 1000

    def __call__(self, seed: int) -> AuxiliaryTask:
        """Make the task of a seed.

        Args:
            seed: The seed.

        Returns:
            The task.
        """
        task = image_task(
            self.dataset,
            self._draw,
            kinds=[f"{100 * share:.0f} % right" for share in self.shares],
            helpful=[share > _CHANCE for share in self.shares],
            per_class=self.per_class,
            pool=self.pool,
            seed=seed,
        )
        model = partial(MLP, inputs(task.problem), outputs=10, widths=(64,), seed=seed)
        return replace(task, problem=replace(task.problem, model=model))

    def right(self, seed: int) -> Tensor:
        """Say which labels are right, which no method but an oracle may know.

        Args:
            seed: The seed of the task.

        Returns:
            For the rows of the task's data, shape (rows, annotators); False where there is no label.
        """
        # What is drawn does not depend on the shares, so perfect annotators give the truth of the same images.
        given, truth = (
            replace(self, shares=shares)(seed).problem.data for shares in (self.shares, (1.0,) * len(self.shares))
        )
        assert isinstance(given, tuple) and isinstance(truth, tuple)  # noqa: PT018 - one condition for the type checker
        return (given[2] == truth[2]) & (given[1] < 0)[:, None]

    def _draw(self, classes: Tensor, generator: torch.Generator) -> Sources:
        answers = [mostly(classes, share, generator) for share in self.shares]
        return Sources.of(len(classes), answers=torch.stack(answers, 1))


def inputs(problem: Problem) -> int:
    """Count the pixels of an image.

    Args:
        problem: A problem on images, which are the first tensor of its data.

    Returns:
        The number of features.
    """
    assert isinstance(problem.data, tuple)
    return problem.data[0][0].numel()


@final
@dataclass(frozen=True)
class Generalised:
    r"""The generalised cross entropy on the auxiliary losses, the plain one on the main loss.

    .. math:: \frac{1 - p_y^q}{q} = \frac{1 - e^{-q \ell}}{q}

    A fixed robust loss: q → 0 is the cross entropy, q = 1 the mean absolute error.

    Attributes:
        q: See above.

    References:
        Zhang and Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy labels",
        NeurIPS 2018, Eq. (6).
    """

    q: float

    def __call__(self, model: nn.Module, batch: ImageBatch) -> tuple[Tensor, Tensor]:
        """Compute the losses.

        Args:
            model: The network.
            batch: As for :func:`image_losses`.

        Returns:
            As :func:`image_losses`.
        """
        losses, present = image_losses(model, batch)
        bounded = -torch.expm1(-self.q * losses[:, 1:]) / self.q
        return torch.cat([losses[:, :1], bounded], 1), present


@final
@dataclass(frozen=True)
class Trusting:
    """The plain losses, where an annotator's label exists only if it is right; for the oracle.

    The batch has one tensor more than that of :func:`image_losses`: which labels are right.
    """

    def __call__(self, model: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Compute the losses.

        Args:
            model: The network.
            batch: As for :func:`image_losses`, then :meth:`NoisyAnnotators.right`.

        Returns:
            As :func:`image_losses`.
        """
        x, y, answers, own, binary, real, right = batch
        losses, present = image_losses(model, (x, y, answers, own, binary, real))
        present = present & torch.cat([torch.ones_like(right[:, :1]), right], 1)
        return torch.where(present, losses, torch.zeros_like(losses)), present
