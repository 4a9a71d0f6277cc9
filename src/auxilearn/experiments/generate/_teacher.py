"""Our way: a teacher over x alone, which weighs opinions about an unlabelled pool, learned through its students."""

from dataclasses import dataclass, field
from typing import cast, final

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from auxilearn.data import CLASSES
from auxilearn.experiments.generate._opinions import Opinions
from auxilearn.experiments.generate._task import FOLDS, RATE, GenerateTask, Student, fold_weights, train
from auxilearn.generators import PooledLabels, soft_cross_entropy
from auxilearn.models import StackedConvNet
from auxilearn.optim import MetaOptimizer
from auxilearn.solvers import Identity, LinearSolver


@final
@dataclass(frozen=True)
class TeacherSearch:
    """How the teacher is learned.

    Attributes:
        every: Inner steps between two outer ones.
        warmup: Inner steps before the first.
        rate: The outer learning rate.
        rows: Pool images of an outer step.
        average_from: The share of the inner steps after which the teacher enters the average.
        solver: The method for the linear system.
    """

    every: int = 5
    warmup: int = 20
    rate: float = 0.02
    rows: int = 256
    average_from: float = 0.5
    solver: LinearSolver = field(default_factory=Identity)


def learn_teacher(task: GenerateTask, known: Opinions, teacher: PooledLabels, search: TeacherSearch) -> PooledLabels:
    r"""Train a student a fold on the teacher's labels of the pool, and move the teacher by their held-back losses.

    .. math:: L_T = \sum_f \ell_{\text{main}}^{\text{outside } f}(W_f)
            + \ell_{\text{pool}}(W_f, g(o_f; \varphi)), \qquad
        L_A = \frac1F \sum_f \ell_{\text{main}}^{\text{fold } f}(W_f)

    Neither student f nor the opinions :math:`o_f` have seen the labels of fold f. :math:`L_A` reaches :math:`\varphi`
    only through the students.

    Args:
        task: The task.
        known: The opinions.
        teacher: Where it starts; it is moved in place.
        search: The settings.

    Returns:
        The teacher, averaged over the later outer steps.
    """
    n, label = len(task.main_y), task.main_y
    kept, held = fold_weights(n, FOLDS)
    average = AveragedModel(teacher)
    net = StackedConvNet([task.seed], FOLDS, CLASSES)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, fused=True)
    outer = torch.optim.Adam(teacher.parameters(), lr=search.rate, betas=(0.9, 0.99))
    meta = MetaOptimizer(outer, solver=search.solver, max_grad_norm=None)
    generator = torch.Generator().manual_seed(task.seed + 20_000)

    def losses(rows: Tensor) -> tuple[Tensor, Tensor]:
        outputs = net(torch.cat([task.main_x, task.pool_x[rows]])[:, None])  # (1, F, N + rows, 10)
        main = -outputs[:, :, :n].log_softmax(-1)[0, :, torch.arange(n), label]  # (F, N)
        return main, soft_cross_entropy(outputs[0, :, n:], teacher(known.folds[:, rows])).mean(1)  # (F,)

    for number, rows in enumerate(task.batches()):
        if number >= search.warmup and (number - search.warmup) % search.every == 0:
            main, auxiliary = losses(torch.randperm(len(task.pool_x), generator=generator)[: search.rows])
            train_loss, outer_loss = (kept * main).sum() + auxiliary.sum(), (held * main).sum() / FOLDS
            meta.step(train_loss, outer_loss, net.parameters(), teacher.parameters())  # students share no weights
            if number >= search.average_from * task.steps:
                average.update_parameters(teacher)
        teacher.requires_grad_(False)
        main, auxiliary = losses(rows)
        teacher.requires_grad_(True)
        optimizer.zero_grad()
        ((kept * main).sum() + auxiliary.sum()).backward()
        optimizer.step()
    return cast("PooledLabels", average.module)


def distil(task: GenerateTask, labels: Tensor) -> Student:
    """Train a student from scratch on all labels and on soft labels of the pool.

    Args:
        task: The task.
        labels: Shape (P, 10).

    Returns:
        The student.
    """
    return train(task, loss=lambda _, rows, main, __: soft_cross_entropy(main, labels[rows]).mean())
