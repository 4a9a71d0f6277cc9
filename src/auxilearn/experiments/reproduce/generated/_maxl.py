"""MAXL: sub-classes written by a generator that looks one step of its student ahead."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from auxilearn.experiments.reproduce._inner import steps_of
from auxilearn.experiments.reproduce.generated._course import Course, Stream, steps_in
from auxilearn.experiments.reproduce.generated._networks import Scores, Student
from auxilearn.experiments.reproduce.generated._task import GeneratedTask
from auxilearn.generators import ConditionalLabels, Hierarchy, collapse_penalty, soft_focal_loss
from auxilearn.safety import second_order


def generator_of(task: GeneratedTask) -> ConditionalLabels:
    """Build the papers' label generator.

    Args:
        task: The task.

    Returns:
        The generator, over x and y, on the task's device.
    """
    hierarchy = Hierarchy.even(task.num_classes, task.settings.subclasses)
    return ConditionalLabels(Scores(task.teacher(hierarchy.num_subclasses)), hierarchy)


def focal(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the focal loss of each image against its class.

    Args:
        logits: Shape (B, C).
        classes: Shape (B,).

    Returns:
        Shape (B,).
    """
    return soft_focal_loss(logits, nn.functional.one_hot(classes, logits.shape[1]).to(logits))


def maxl_gradient(
    student: Student,
    generator: ConditionalLabels,
    images: Tensor,
    classes: Tensor,
    *,
    rate: float,
    penalty: float,
) -> tuple[Tensor, ...]:
    r"""Differentiate the main loss one step ahead by the generator's weights.

    .. math:: W^+ = W - \alpha\, \partial_W \big( \ell_{\text{main}} + \ell_{\text{aux}}(g(x, y; \varphi)) \big), \qquad
        \partial_\varphi \big( \ell_{\text{main}}(W^+) + \lambda \textstyle\sum_k \bar q_k \log \bar q_k \big)

    Nothing is written: no weight, no ``.grad``, no BatchNorm statistics.

    Args:
        student: :math:`W`.
        generator: :math:`g`.
        images: What networks read, shape (B, 3, h, w).
        classes: Shape (B,).
        rate: :math:`\alpha`.
        penalty: :math:`\lambda`.

    Returns:
        One tensor for each weight of the generator.

    References:
        Liu et al., "Self-Supervised Generalisation with Meta Auxiliary Learning", NeurIPS 2019, Alg. 1.
    """
    names, weights = zip(*student.named_parameters(), strict=True)
    with second_order(student, generator):
        labels = generator(images, classes)
        main, auxiliary = student(images)
        now = focal(main, classes).mean() + soft_focal_loss(auxiliary, labels).mean()
        slopes: Sequence[Tensor] = torch.autograd.grad(now, weights, create_graph=True)
        ahead = {n: w - rate * s for n, w, s in zip(names, weights, slopes, strict=True)}
        later = focal(functional_call(student, ahead, (images,))[0], classes).mean()
        outer = later + penalty * collapse_penalty(labels)
        return torch.autograd.grad(outer, tuple(generator.parameters()))


@final
class Maxl(Course):
    """MAXL, as published: after each epoch of the student's an epoch of the generator's.

    Both losses are focal losses on the same labelled images. The generator's statistics of BatchNorm are those of the
    batch throughout, as in the original code, which never puts it into evaluation mode.

    Args:
        task: The task.
        learned: False leaves the generator as it was drawn: MAXL-F.

    References:
        Liu et al., "Self-Supervised Generalisation with Meta Auxiliary Learning", NeurIPS 2019. MAXL-F as in Navon et
        al., ICLR 2021.
    """

    def __init__(self, task: GeneratedTask, *, learned: bool = True) -> None:
        super().__init__(task, heads=task.num_classes * task.settings.subclasses)
        settings = task.settings
        self.generator = generator_of(task).train()
        self.learned = learned
        self.epoch = steps_of(settings, len(self.rows)) // settings.epochs
        self.again = Stream(task, task.pixels, self.rows, settings.batch, stream=3)
        self.outer = torch.optim.SGD(self.generator.parameters(), lr=settings.maxl_lr, weight_decay=settings.maxl_decay)

    def step(self) -> dict[str, float]:
        """See :meth:`Steps.step`.

        Returns:
            Both losses.
        """
        rows, images = self.labelled.draw()
        classes = self.classes_of(rows)
        with torch.no_grad(), second_order(self.generator):
            labels = self.generator(images, classes)
        main, auxiliary = self.student(images)
        of_main, of_auxiliary = focal(main, classes).mean(), soft_focal_loss(auxiliary, labels).mean()
        found = self.descend(of_main + of_auxiliary, main=of_main, auxiliary=of_auxiliary)
        if self.learned and (self.number + 1) % self.epoch == 0:
            halved = self.number * 4 // steps_in(self.task)  # as the original code does: at each quarter of a run
            self.outer.param_groups[0]["lr"] = self.task.settings.maxl_lr * 0.5**halved
            for _ in range(self.epoch):
                self._move()
        return found

    def _move(self) -> None:
        rows, images = self.again.draw()
        found = maxl_gradient(
            self.student,
            self.generator,
            images,
            self.classes_of(rows),
            rate=self.rate,
            penalty=self.task.settings.maxl_penalty,
        )
        for p, g in zip(self.generator.parameters(), found, strict=True):
            p.grad = g
        self.outer.step()

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Stateful.state_dict`.

        Returns:
            The state.
        """
        return {
            **super().state_dict(),
            "generator": self.generator.state_dict(),
            "again": self.again.state_dict(),
            "outer": self.outer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Stateful.load_state_dict`."""
        super().load_state_dict(state)
        self.generator.load_state_dict(state["generator"])
        self.again.load_state_dict(state["again"])
        self.outer.load_state_dict(state["outer"])
