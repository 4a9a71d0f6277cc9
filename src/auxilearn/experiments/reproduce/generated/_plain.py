"""Students of given labels: the classes alone, random sub-classes besides, or soft labels of the pool besides."""

import math
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn.experiments.reproduce.generated._course import Course, Stream
from auxilearn.experiments.reproduce.generated._task import GeneratedTask
from auxilearn.generators import soft_cross_entropy


@final
class MainOnly(Course):
    """The main task alone.

    Args:
        task: The task.
        rows: See :class:`Course`.
    """

    def step(self) -> dict[str, float]:
        """See :meth:`Steps.step`.

        Returns:
            The loss.
        """
        rows, images = self.labelled.draw()
        main = functional.cross_entropy(self.student(images)[0], self.classes_of(rows))
        return self.descend(main, main=main)


@final
class RandomLabels(Course):
    """A sub-class of its own class for each labelled image, drawn once: what a second head does by itself.

    Args:
        task: The task.
    """

    def __init__(self, task: GeneratedTask) -> None:
        count = task.settings.subclasses
        super().__init__(task, heads=count * task.num_classes)
        drawn = torch.randint(count, task.classes.shape, generator=torch.Generator().manual_seed(task.seed + 30_000))
        self.drawn = task.classes * count + drawn

    def step(self) -> dict[str, float]:
        """See :meth:`Steps.step`.

        Returns:
            Both losses.
        """
        rows, images = self.labelled.draw()
        main, auxiliary = self.student(images)
        of_main = functional.cross_entropy(main, self.classes_of(rows))
        of_auxiliary = functional.cross_entropy(auxiliary, self.drawn[rows].to(self.task.device))
        return self.descend(of_main + of_auxiliary, main=of_main, auxiliary=of_auxiliary)


@final
class WithPool(Course):
    """All labelled images, and soft labels of the pool, for one and the same head.

    Args:
        task: The task; its pool is not empty.
        labels: Shape (P, C).
    """

    def __init__(self, task: GeneratedTask, labels: Tensor) -> None:
        super().__init__(task)
        self.labels = labels
        self.unlabelled = pool_stream(task)

    def step(self) -> dict[str, float]:
        """See :meth:`Steps.step`.

        Returns:
            Both losses.
        """
        rows, images = self.labelled.draw()
        others, more = self.unlabelled.draw()
        main = self.student(torch.cat([images, more]))[0]
        of_main = functional.cross_entropy(main[: len(rows)], self.classes_of(rows))
        of_pool = pool_loss(main[len(rows) :], self.labels[others].to(main))
        return self.descend(of_main + of_pool, main=of_main, pool=of_pool)

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Stateful.state_dict`.

        Returns:
            The state.
        """
        return {**super().state_dict(), "unlabelled": self.unlabelled.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Stateful.load_state_dict`."""
        super().load_state_dict(state)
        self.unlabelled.load_state_dict(state["unlabelled"])


def pool_loss(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Return the loss on soft labels, in which a label counts by what it says.

    .. math:: \frac1B \sum_i \Big( 1 - \frac{H(q_i)}{\log C} \Big) \Big( -\sum_c q_{ic} \log p_{ic} \Big)

    A certain label counts as much as a class, and one that knows nothing not at all: it would only teach the student to
    be unsure.

    Args:
        logits: Shape (B, C).
        labels: :math:`q`, shape (B, C).

    Returns:
        A scalar.

    Example:
        >>> pool_loss(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
        tensor(0.3466)
    """
    entropy = -torch.xlogy(labels, labels.clamp_min(torch.finfo(labels.dtype).tiny)).sum(1)
    return ((1 - entropy / math.log(labels.shape[1])) * soft_cross_entropy(logits, labels)).mean()


def pool_stream(task: GeneratedTask, *, stream: int = 2) -> Stream:
    """Draw batches of the pool.

    Args:
        task: The task.
        stream: See :class:`Stream`.

    Returns:
        The batches.
    """
    return Stream(task, task.pool, torch.arange(len(task.pool)), task.settings.pool_batch, stream=stream)
