"""The task of ``generate``: few labelled images, a pool without labels, and how every student is trained."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from auxilearn.data import CLASSES, Images, few_labels
from auxilearn.models._initial import conv, linear

STEPS = 300
BATCH = 64
RATE = 2e-3
FOLDS = 5


@final
@dataclass(frozen=True)
class GenerateTask:
    """What a method may read, and what only the score may.

    Attributes:
        seed: Of the labels, the initial weights and the batches, which all methods share.
        main_x: The labelled images, shape (N, 14, 14), class by class.
        main_y: Their classes, shape (N,).
        pool_x: Images without labels, shape (P, 14, 14).
        pool_y: Their classes, read only to report how often a teacher is right, shape (P,).
        test_x: Shape (T, 14, 14); no method reads it.
        test_y: Shape (T,).
        steps: Inner steps of a training run.
    """

    seed: int
    main_x: Tensor
    main_y: Tensor
    pool_x: Tensor
    pool_y: Tensor
    test_x: Tensor
    test_y: Tensor
    steps: int = STEPS

    def accuracy(self, classify: Callable[[Tensor], Tensor]) -> float:
        """Return the test accuracy.

        Args:
            classify: From images, shape (B, 14, 14), to main logits, shape (B, 10).

        Returns:
            In percent.
        """
        with torch.no_grad():
            guess = torch.cat([classify(x).argmax(-1) for x in torch.split(self.test_x, 500)])
        return 100 * float((guess == self.test_y).float().mean())

    def agreement(self, labels: Tensor) -> float:
        """Say how often soft labels of the pool are right; for the report only.

        Args:
            labels: Shape (P, 10).

        Returns:
            In percent.
        """
        return 100 * float((labels.argmax(-1) == self.pool_y).float().mean())

    def batches(self) -> Tensor:
        """Draw the pool rows of each step, whole passes in random order.

        Returns:
            Shape (steps, batch), equal for all methods.
        """
        generator = torch.Generator().manual_seed(self.seed + 10_000)
        size, wanted = len(self.pool_x), self.steps * BATCH
        passes = [torch.randperm(size, generator=generator) for _ in range(-(-wanted // size))]
        return torch.cat(passes)[:wanted].reshape(self.steps, BATCH)


def draw_task(images: Images, seed: int, *, per_class: int = 5, pool: int = 1000, steps: int = STEPS) -> GenerateTask:
    """Draw the labels and the pool of a seed.

    Args:
        images: The data.
        seed: The seed.
        per_class: Labels a class.
        pool: Images without labels.
        steps: Inner steps of a training run.

    Returns:
        The task.
    """
    split = few_labels(images.classes, seed=seed, per_class=per_class, pool=pool)
    x, y = images.pixels, images.classes
    main, others, test = split.main, split.pool, split.test
    return GenerateTask(seed, x[main], y[main], x[others], y[others], x[test], y[test], steps)


def fold_weights(n: int, folds: int) -> tuple[Tensor, Tensor]:
    """Return the weight of each main label in each fold's training and outer loss.

    Args:
        n: The number of main labels; label i belongs to fold i modulo ``folds``.
        folds: The number of folds.

    Returns:
        Two tensors of shape (folds, n) whose rows sum to one.
    """
    held = (torch.arange(n) % folds == torch.arange(folds)[:, None]).float()
    kept = 1 - held
    return kept / kept.sum(1, keepdim=True), held / held.sum(1, keepdim=True)


@final
class Student(nn.Module):
    """The network of ``auxilearn.models`` for these images, with the two heads in layers of their own.

    Args:
        seed: The seed of the initial weights; those of the body and the main head do not depend on the other head.
        auxiliary: The width of the auxiliary head; 0 for none.
    """

    def __init__(self, seed: int, auxiliary: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        small = math.sqrt(0.5)
        self.body = nn.Sequential(
            conv(1, 8, 5, generator, stride=2),
            nn.ReLU(),
            conv(8, 16, 3, generator, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            linear(256, 64, generator),
            nn.ReLU(),
        )
        self.main = linear(64, CLASSES, generator, gain=small)
        self.auxiliary = linear(64, auxiliary, generator, gain=small) if auxiliary else None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute both heads.

        Args:
            images: Shape (B, 14, 14).

        Returns:
            The main logits, shape (B, 10), and the auxiliary ones, shape (B, S); those of no head are empty.
        """
        h = self.body(images[:, None])
        return self.main(h), h[:, :0] if self.auxiliary is None else self.auxiliary(h)

    def shared(self) -> list[nn.Parameter]:
        """List the weights that the main loss reaches: all but the auxiliary head.

        Returns:
            The parameters.
        """
        return [*self.body.parameters(), *self.main.parameters()]


AuxiliaryLoss = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""From the step's number, the pool rows, and the main and auxiliary logits of those rows, to a scalar."""


def train(task: GenerateTask, *, heads: int = 0, loss: AuxiliaryLoss | None = None) -> Student:
    r"""Train a student on :math:`\ell_{\text{main}}` on all labels plus a loss on a batch of the pool.

    Args:
        task: The task.
        heads: The width of the auxiliary head.
        loss: The loss on the pool; None leaves the pool out.

    Returns:
        The student.
    """
    student = Student(task.seed, heads)
    optimizer = torch.optim.Adam(student.parameters(), lr=RATE, fused=True)
    n = len(task.main_y)
    for number, rows in enumerate(task.batches()):
        images = task.main_x if loss is None else torch.cat([task.main_x, task.pool_x[rows]])
        main, auxiliary = student(images)
        total = functional.cross_entropy(main[:n], task.main_y)
        if loss is not None:
            total = total + loss(number, rows, main[n:], auxiliary[n:])
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    return student
