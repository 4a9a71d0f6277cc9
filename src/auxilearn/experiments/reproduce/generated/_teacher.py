"""A teacher over x alone with five parameters: whom to trust, and how far. Learned through its students."""

from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from auxilearn import hypergradient
from auxilearn.experiments.reproduce._inner import optimizer_of, schedule_of
from auxilearn.experiments.reproduce._loop import Steps
from auxilearn.experiments.reproduce.generated._course import Stream, steps_in
from auxilearn.experiments.reproduce.generated._networks import Student
from auxilearn.experiments.reproduce.generated._opinions import FOLDS, VIEWS, Opinions, folds_of
from auxilearn.experiments.reproduce.generated._plain import pool_loss, pool_stream
from auxilearn.experiments.reproduce.generated._task import GeneratedTask
from auxilearn.generators import PooledLabels
from auxilearn.safety import second_order
from auxilearn.solvers import Identity

_FIT_STEPS, _FIT_RATE = 60, 0.05
_REFINE_STEPS, _REFINE_RATE = 60, 0.02
_WARMUP, _AVERAGE_FROM = 1 / 15, 0.5


def fitted_teacher(task: GeneratedTask, known: Opinions) -> PooledLabels:
    """Fit the teacher to the held-back labels by itself, without any student.

    Args:
        task: The task.
        known: The opinions.

    Returns:
        The teacher, on the CPU.
    """
    teacher = PooledLabels(len(VIEWS), sharpness=len(VIEWS))
    optimizer = torch.optim.Adam(teacher.parameters(), lr=_FIT_RATE)
    for _ in range(_FIT_STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(teacher.logits(known.held), task.classes).backward()
        optimizer.step()
    return teacher


@final
class Refinement(Steps):
    r"""A student a fold on the teacher's labels of the pool, and the teacher moved by their held-back losses.

    .. math:: L_T = \sum_f \ell_{\text{main}}^{\text{outside } f}(W_f)
            + \ell_{\text{pool}}(W_f, g(o_f; \varphi)), \qquad
        L_A = \frac1F \sum_f \ell_{\text{main}}^{\text{fold } f}(W_f)

    Neither student f nor the opinions :math:`o_f` have seen the labels of fold f. :math:`L_A` reaches :math:`\varphi`
    only through the students, whose hypergradients are computed one after another.

    Args:
        task: The task; its pool is not empty.
        known: The opinions.
        teacher: Where the teacher starts; it is moved in place.

    Attributes:
        students: One a fold.
        average: The teacher, averaged over the later outer steps.
    """

    def __init__(self, task: GeneratedTask, known: Opinions, teacher: PooledLabels) -> None:
        self.task, self.known, self.teacher = task, known, teacher.to(task.device)
        self.students = [task.student(0).train() for _ in range(FOLDS)]
        self.model = nn.ModuleList(self.students)
        self.average = AveragedModel(self.teacher)
        settings, steps, fold = task.settings, steps_in(task), folds_of(task.classes)
        self.every, self.warmup = max(1, steps // _REFINE_STEPS), int(steps * _WARMUP)
        self.average_from = int(steps * _AVERAGE_FROM)
        self._inner = [optimizer_of(settings, student.parameters()) for student in self.students]
        self._schedules = [schedule_of(settings, optimizer, steps) for optimizer in self._inner]
        self._outer = torch.optim.Adam(self.teacher.parameters(), lr=_REFINE_RATE, betas=(0.9, 0.99))
        kept = [(fold != f).nonzero()[:, 0] for f in range(FOLDS)]
        held = [(fold == f).nonzero()[:, 0] for f in range(FOLDS)]
        self._labelled = [Stream(task, task.pixels, rows, settings.batch, stream=1) for rows in kept]
        self._again = [Stream(task, task.pixels, rows, settings.batch, stream=3) for rows in kept]
        self._held = [Stream(task, task.pixels, rows, settings.batch, stream=4) for rows in held]
        self._pool, self._pool_again = pool_stream(task), pool_stream(task, stream=5)

    def step(self) -> dict[str, float]:
        """See :meth:`Steps.step`.

        Returns:
            The mean losses of the students, and the teacher's weights.
        """
        if self.number >= self.warmup and (self.number - self.warmup) % self.every == 0:
            self._move()
        pool = self._pool.draw()
        mains, others = 0.0, 0.0
        for f, student in enumerate(self.students):
            main, auxiliary = self._losses(f, student, self._labelled[f].draw(), pool, learning=False)
            self._inner[f].zero_grad()
            (main + auxiliary).backward()
            self._inner[f].step()
            schedule = self._schedules[f]
            if schedule is not None:
                schedule.step()
            mains, others = mains + float(main.detach()) / FOLDS, others + float(auxiliary.detach()) / FOLDS
        weights = cast("list[float]", self.teacher.weights.tolist())
        named = {f"weight of {view}": weight for view, weight in zip(VIEWS, weights, strict=True)}
        return {"main": mains, "pool": others, **named}

    def _losses(
        self, f: int, student: Student, labelled: tuple[Tensor, Tensor], pool: tuple[Tensor, Tensor], *, learning: bool
    ) -> tuple[Tensor, Tensor]:
        (rows, images), (others, more) = labelled, pool
        outputs = student(torch.cat([images, more]))[0]
        main = functional.cross_entropy(outputs[: len(rows)], self.task.classes[rows].to(self.task.device))
        with torch.set_grad_enabled(learning):
            labels = self.teacher(self.known.folds[f, others].to(self.task.device))
        return main, pool_loss(outputs[len(rows) :], labels)

    def _move(self) -> None:
        pool = self._pool_again.draw()
        params = list(self.teacher.parameters())
        total = [torch.zeros_like(p) for p in params]
        for f, student in enumerate(self.students):
            rows, images = self._held[f].draw()
            with second_order(student):
                outer = functional.cross_entropy(student(images)[0], self.task.classes[rows].to(self.task.device))
                train_loss = sum(self._losses(f, student, self._again[f].draw(), pool, learning=True))
                found = hypergradient(
                    cast("Tensor", train_loss),
                    outer,
                    params=student.parameters(),
                    aux_params=params,
                    solver=Identity(),
                    on_failure="skip",
                )
            for part, grad in zip(total, found.grads, strict=True):
                part.add_(grad / FOLDS)
        for p, grad in zip(params, total, strict=True):
            p.grad = grad
        self._outer.step()
        if self.number >= self.average_from:
            self.average.update_parameters(self.teacher)

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "students": self.model,
            "teacher": self.teacher,
            "average": self.average,
            "outer": self._outer,
            "pool": self._pool,
            "pool again": self._pool_again,
        }
        for name, each in (
            ("inner", self._inner),
            ("schedule", self._schedules),
            ("labelled", self._labelled),
            ("again", self._again),
            ("held", self._held),
        ):
            parts |= {f"{name} {f}": part for f, part in enumerate(each) if part is not None}
        return parts

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Stateful.state_dict`.

        Returns:
            The state.
        """
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Stateful.load_state_dict`."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    @property
    def learned(self) -> PooledLabels:
        """The averaged teacher."""
        return cast("PooledLabels", self.average.module)
