"""AuxiLearn's learned labels: as published, and with what was wrong mended."""

import warnings
from abc import abstractmethod
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from auxilearn.combiners import Linear
from auxilearn.errors import SolverWarning
from auxilearn.experiments.reproduce.generated._course import Course, Stream
from auxilearn.experiments.reproduce.generated._maxl import focal, generator_of
from auxilearn.experiments.reproduce.generated._task import GeneratedTask
from auxilearn.generators import soft_cross_entropy, soft_focal_loss
from auxilearn.hypernet import MonoLinearHyperNet
from auxilearn.optim import MetaOptimizer
from auxilearn.safety import second_order
from auxilearn.solvers import Neumann

_OUTER_MOMENTUM = 0.9


class _Implicit(Course):
    # A student of two heads, a generator over x and y, and a combiner of the two losses.
    meta: MetaOptimizer
    combiner: nn.Module
    outer: Stream

    def __init__(self, task: GeneratedTask, rows: Tensor | None) -> None:
        super().__init__(task, heads=task.num_classes * task.settings.subclasses, rows=rows)
        self.generator = generator_of(task).train()
        self.again = Stream(task, task.pixels, self.rows, task.settings.batch, stream=3)

    @abstractmethod
    def losses(self, images: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
        """The main loss and the auxiliary one of each image, (B, 2)."""

    @abstractmethod
    def outer_loss(self, images: Tensor, classes: Tensor) -> Tensor: ...

    @abstractmethod
    def total(self, losses: Tensor) -> Tensor: ...

    @abstractmethod
    def weights(self) -> list[float]:
        """Of main and auxiliary loss."""

    def moved(self) -> None:
        """After an outer step."""

    def step(self) -> dict[str, float]:
        rows, images = self.labelled.draw()
        classes = self.classes_of(rows)
        with torch.no_grad(), second_order(self.generator):
            labels = self.generator(images, classes)
        losses = self.losses(images, classes, labels)
        main, auxiliary = losses.mean(0)
        found = self.descend(self.total(losses), main=main, auxiliary=auxiliary)
        if (self.number + 1) % self.task.settings.every == 0:
            self._move()
        weight_of_main, weight = self.weights()
        return {**found, "weight of main": weight_of_main, "weight of auxiliary": weight}

    def _move(self) -> None:
        held, seen = self.outer.draw(), self.again.draw()
        classes = self.classes_of(seen[0])
        with second_order(self.student, self.generator), warnings.catch_warnings():
            # The published settings step on, whatever the solve came to.
            warnings.simplefilter("ignore", SolverWarning)
            outer_loss = self.outer_loss(held[1], self.classes_of(held[0]))
            train_loss = self.total(self.losses(seen[1], classes, self.generator(seen[1], classes)))
            aux = [*self.generator.parameters(), *self.combiner.parameters()]
            self.meta.step(train_loss, outer_loss, self.student.shared(), aux)
        self.moved()

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "generator": self.generator.state_dict(),
            "combiner": self.combiner.state_dict(),
            "again": self.again.state_dict(),
            "outer": self.outer.state_dict(),
            "meta": self.meta.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.generator.load_state_dict(state["generator"])
        self.combiner.load_state_dict(state["combiner"])
        self.again.load_state_dict(state["again"])
        self.outer.load_state_dict(state["outer"])
        self.meta.load_state_dict(state["meta"])


@final
class Original(_Implicit):
    r"""AuxiLearn 1.0 in the settings of its experiment on pets.

    Focal losses; a monotone linear combiner of both, plus the main loss; the auxiliary head is left out of the
    implicit solve, whose sum lacks its leading :math:`\alpha`; the outer loss is that of the held-out rows, on which
    the student never trains.

    Args:
        task: The task.

    References:
        Navon et al., "Auxiliary Learning by Implicit Differentiation", ICLR 2021, Sec. 5.3, and the scripts of its
        repository.
    """

    def __init__(self, task: GeneratedTask) -> None:
        kept = torch.ones(len(task.classes), dtype=torch.bool)
        kept[task.held_out] = False
        super().__init__(task, kept.nonzero()[:, 0])
        settings = task.settings
        with torch.random.fork_rng(devices=[]):  # torch draws weights, which are then set to 1
            linear = MonoLinearHyperNet(main_task=0, input_dim=2, skip_connection=True, weight_normalization=False)
        self.combiner = self.linear = linear.to(task.device)
        self.outer = Stream(task, task.pixels, task.held_out, settings.outer_batch, stream=4)
        aux = [*self.generator.parameters(), *self.combiner.parameters()]
        sgd = torch.optim.SGD(aux, lr=settings.outer_lr, momentum=_OUTER_MOMENTUM, weight_decay=settings.outer_decay)
        self.meta = MetaOptimizer(sgd, hpo_lr=settings.alpha, truncate_iter=settings.terms, max_grad_norm=settings.clip)

    def losses(self, images: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
        """Compute both losses.

        Args:
            images: Shape (B, 3, h, w).
            classes: Shape (B,).
            labels: Shape (B, S).

        Returns:
            Shape (B, 2).
        """
        main, auxiliary = self.student(images)
        scaled = soft_focal_loss(auxiliary, labels) * self.task.settings.aux_scale
        return torch.stack([focal(main, classes), scaled], 1)

    def outer_loss(self, images: Tensor, classes: Tensor) -> Tensor:
        """Compute the main loss of held-out rows.

        Args:
            images: Shape (B, 3, h, w).
            classes: Shape (B,).

        Returns:
            A scalar.
        """
        return focal(self.student(images)[0], classes).mean()

    def total(self, losses: Tensor) -> Tensor:
        """Combine the losses.

        Args:
            losses: Shape (B, 2).

        Returns:
            A scalar.
        """
        return self.linear(losses)

    def weights(self) -> list[float]:
        """Return the combiner's weights, with the main loss that is added.

        Returns:
            Of main and auxiliary loss.
        """
        main, auxiliary = self.linear.linear.weight.detach().flatten()
        return [1.0 + float(main), float(auxiliary)]

    def moved(self) -> None:
        """Clamp the combiner."""
        self.linear.clamp()


@final
class Repaired(_Implicit):
    r"""The same model with our numerics.

    The cross entropy, as the other methods have it; a combiner that cannot turn the main loss up, which would only be a
    learning rate, and needs no clamping; an estimated, guarded and scaled Neumann series over all weights that the main
    loss reaches; Adam, whose steps do not depend on the hypergradient's scale; and no label lost: the outer loss is
    that of a second batch of training labels.

    Args:
        task: The task.
    """

    def __init__(self, task: GeneratedTask) -> None:
        super().__init__(task, None)
        settings = task.settings
        self.combiner = self.linear = Linear(1, init=settings.aux_scale).to(task.device)
        self.outer = Stream(task, task.pixels, self.rows, settings.batch, stream=4)
        aux = [*self.generator.parameters(), *self.combiner.parameters()]
        adam = torch.optim.Adam(aux, lr=settings.outer_lr)
        self.meta = MetaOptimizer(adam, solver=Neumann(terms=settings.terms), max_grad_norm=None, on_failure="skip")

    def losses(self, images: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
        """Compute both losses.

        Args:
            images: Shape (B, 3, h, w).
            classes: Shape (B,).
            labels: Shape (B, S).

        Returns:
            Shape (B, 2).
        """
        main, auxiliary = self.student(images)
        of_main = functional.cross_entropy(main, classes, reduction="none")
        return torch.stack([of_main, soft_cross_entropy(auxiliary, labels)], 1)

    def outer_loss(self, images: Tensor, classes: Tensor) -> Tensor:
        """Compute the main loss of the second batch.

        Args:
            images: Shape (B, 3, h, w).
            classes: Shape (B,).

        Returns:
            A scalar.
        """
        return functional.cross_entropy(self.student(images)[0], classes)

    def total(self, losses: Tensor) -> Tensor:
        """Combine the losses.

        Args:
            losses: Shape (B, 2).

        Returns:
            A scalar.
        """
        return losses[:, 0].mean() + self.linear(losses[:, 1:])

    def weights(self) -> list[float]:
        """Return the weights.

        Returns:
            Of main and auxiliary loss.
        """
        return [1.0, float(self.linear.weights)]
