"""What one can do with the pool without learning a teacher: random labels, clusters, pseudo labels, spread labels."""

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn.experiments.generate._opinions import Opinions
from auxilearn.experiments.generate._task import GenerateTask, Student, train
from auxilearn.generators import PooledLabels

CLUSTERS = 50


def train_random(task: GenerateTask, *, subclasses: int = CLUSTERS) -> Student:
    """Train the second head on labels of the pool that were drawn at random, once.

    Args:
        task: The task.
        subclasses: How many there are.

    Returns:
        The student.
    """
    drawn = torch.randint(subclasses, (len(task.pool_x),), generator=_generator(task.seed))
    return _second_head(task, drawn, subclasses)


def train_clusters(task: GenerateTask, *, clusters: int = CLUSTERS) -> Student:
    """Train the second head on the k-means clusters of the pool's pixels.

    Args:
        task: The task.
        clusters: How many.

    Returns:
        The student.
    """
    return _second_head(task, k_means(task.pool_x.flatten(1), clusters, seed=task.seed), clusters)


def train_self(task: GenerateTask, *, confidence: float = 0.9, start: float = 1 / 3) -> Student:
    """Train on the student's own predictions of the pool where it is sure of them.

    Args:
        task: The task.
        confidence: The least probability.
        start: The share of the steps that are taken on the labels alone.

    Returns:
        The student.

    References:
        Lee, "Pseudo-Label", ICML workshop 2013.
    """

    def loss(number: int, rows: Tensor, main: Tensor, auxiliary: Tensor) -> Tensor:
        sure, guess = main.detach().softmax(1).max(1)
        each = functional.cross_entropy(main, guess, reduction="none")
        return (each * (sure > confidence)).mean() * (number >= start * task.steps)

    return train(task, loss=loss)


@torch.no_grad()
def spread_labels(known: Opinions, *, sharpness: float) -> Tensor:
    """Weigh all opinions alike.

    Args:
        known: The opinions.
        sharpness: The sum of their weights.

    Returns:
        Soft labels of the pool, shape (P, 10).
    """
    return PooledLabels(known.pool.shape[1], sharpness=sharpness)(known.pool)


def fitted_teacher(known: Opinions, labels: Tensor, *, sharpness: float, steps: int = 60) -> PooledLabels:
    """Fit the teacher to the held-back labels by itself, without any student.

    Args:
        known: The opinions.
        labels: Shape (N,).
        sharpness: Where it starts.
        steps: Steps of Adam, as many as the outer steps of the learned one.

    Returns:
        The teacher.
    """
    teacher = PooledLabels(known.pool.shape[1], sharpness=sharpness)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(teacher.logits(known.held), labels).backward()
        optimizer.step()
    return teacher


def k_means(points: Tensor, clusters: int, *, seed: int, steps: int = 30) -> Tensor:
    """Cluster points, from centres that are drawn far apart.

    Args:
        points: Shape (P, D).
        clusters: How many.
        seed: Of the first centres.
        steps: Rounds.

    Returns:
        The cluster of each point, shape (P,).

    References:
        Arthur and Vassilvitskii, "k-means++", SODA 2007.
    """
    generator = _generator(seed)
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    for _ in range(clusters - 1):
        far = torch.cdist(points, centres).amin(1).square()
        centres = torch.cat([centres, points[torch.multinomial(far, 1, generator=generator)]])
    for _ in range(steps):
        member = functional.one_hot(torch.cdist(points, centres).argmin(1), clusters).to(points.dtype)
        size = member.sum(0)[:, None]
        centres = torch.where(size > 0, member.T @ points / size.clamp_min(1), centres)
    return torch.cdist(points, centres).argmin(1)


def _second_head(task: GenerateTask, labels: Tensor, classes: int) -> Student:
    return train(
        task, heads=classes, loss=lambda _, rows, __, auxiliary: functional.cross_entropy(auxiliary, labels[rows])
    )


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed + 30_000)
