"""Few labelled images of digits, a pool with auxiliary labels only, and a test set, as a task for any method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal, final

import torch
from torch import Tensor, nn

from auxilearn._checks import one_of
from auxilearn.data import CLASSES, Images, few_labels, mnist_5k, sklearn_digits
from auxilearn.experiments.given._losses import Sources, image_losses, main_logits
from auxilearn.experiments.harness._experiment import AuxiliaryTask
from auxilearn.models import MLP, ConvNet
from auxilearn.training import Problem

Dataset = Literal["mnist", "digits"]
Draw = Callable[[Tensor, torch.Generator], Sources]


@final
@dataclass(frozen=True)
class Accuracy:
    """The test accuracy of the main head, in percent.

    Attributes:
        images: Shape (T, side, side).
        classes: Shape (T,).
    """

    images: Tensor
    classes: Tensor

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> float:
        """Score a model.

        Args:
            model: A trained network; the first ten outputs are the main head.

        Returns:
            From 0 to 100.
        """
        guess = model(self.images)[:, :CLASSES].argmax(1)
        return 100 * float((guess == self.classes).float().mean())


def image_task(
    dataset: Dataset,
    draw: Draw,
    *,
    kinds: Sequence[str],
    helpful: Sequence[bool],
    per_class: int,
    pool: int,
    seed: int,
) -> AuxiliaryTask:
    """Split a data set, draw auxiliary labels for the pool, and forget the pool's main labels.

    Args:
        dataset: ``"mnist"`` (14 × 14, a small convolutional network) or ``"digits"`` (8 × 8, a perceptron).
        draw: A function of the pool's classes and a generator that returns the auxiliary labels.
        kinds: A word for each auxiliary loss.
        helpful: Which auxiliary losses an oracle would use.
        per_class: Main labels of each class.
        pool: The size of the pool.
        seed: Decides the split, the auxiliary labels and the initial weights.

    Returns:
        The task. Its data are labelled rows, then pool rows; see :func:`image_losses` for the tensors.
    """
    images = read(dataset)
    split = few_labels(images.classes, seed=seed, per_class=per_class, pool=pool)
    # Not the split's own stream of numbers, so that labels and rows are independent.
    sources = draw(images.classes[split.pool], torch.Generator().manual_seed(seed + 100_000))
    labels = len(split.main)
    main_y = torch.cat([images.classes[split.main], torch.full((pool,), -1)])
    x = images.pixels[torch.cat([split.main, split.pool])]
    problem = Problem(
        partial(MLP, x[0].numel(), sources.outputs, seed=seed)
        if dataset == "digits"
        else partial(ConvNet, sources.outputs, seed=seed),
        image_losses,
        data=(x, main_y, *sources.behind(labels)),
        labelled=torch.arange(labels),
        logits=main_logits,
        names=("main", *numbered(kinds)),
    )
    score = Accuracy(images.pixels[split.test], images.classes[split.test])
    return AuxiliaryTask(problem, score, torch.tensor([True, *helpful]), ("main", *kinds))


@lru_cache(maxsize=2)
def read(dataset: Dataset) -> Images:
    """Read a data set, once a process.

    Args:
        dataset: Its name.

    Returns:
        The images.
    """
    one_of("dataset", dataset, ("mnist", "digits"))
    return mnist_5k() if dataset == "mnist" else sklearn_digits(side=8)


def numbered(kinds: Sequence[str]) -> list[str]:
    """Tell losses of one kind apart.

    Args:
        kinds: A word for each loss.

    Returns:
        Each with its number among those of its kind.

    Example:
        >>> numbered(["good", "bad", "good"])
        ['good 1', 'bad 1', 'good 2']
    """
    return [f"{kind} {1 + list(kinds[:i]).count(kind)}" for i, kind in enumerate(kinds)]
