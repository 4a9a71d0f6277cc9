"""Our way: opinions about the pool, a teacher that weighs them, a gate, and a student of what it writes."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn.experiments.reproduce._loop import go
from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce._reproduction import Outcome
from auxilearn.experiments.reproduce.generated._course import steps_in
from auxilearn.experiments.reproduce.generated._networks import Student
from auxilearn.experiments.reproduce.generated._opinions import FOLDS, VIEWS, Opinions, folds_of, opinions_of
from auxilearn.experiments.reproduce.generated._parts import (
    forget_parts,
    kept,
    kept_student,
    key_of,
    looked_at,
    trained,
)
from auxilearn.experiments.reproduce.generated._plain import MainOnly, WithPool
from auxilearn.experiments.reproduce.generated._task import GeneratedTask
from auxilearn.experiments.reproduce.generated._teacher import Refinement, fitted_teacher
from auxilearn.generators import PooledLabels
from auxilearn.training._gate import gate

MAIN_ONLY, TEACHER = "main only", "teacher"


def train_ours(task: GeneratedTask, place: Place) -> Outcome:
    """Train with labels of the pool that a learned teacher writes, if held-back labels say that they help.

    Args:
        task: The task.
        place: Where everything is kept.

    Returns:
        The student; in the details the teacher's weights, what the gate saw and chose.
    """
    plain = kept_student(task, place, MAIN_ONLY, lambda: MainOnly(task), validate=task.validate)
    if not len(task.pool):
        forget_parts(place)
        return Outcome(plain, {"chosen": MAIN_ONLY, "note": "The pool is empty: there is nothing to label."})
    fold = folds_of(task.classes)
    outside = [
        kept_student(
            task,
            place,
            f"main only, outside fold {f}",
            lambda f=f: MainOnly(task, rows=(fold != f).nonzero()[:, 0]),
            validate=None,
        )
        for f in range(FOLDS)
    ]
    known = Opinions(**kept(task, place, "opinions", lambda _: opinions_of(task, plain, outside).state()))
    found = kept(task, place, TEACHER, lambda part: _learned(task, known, part))
    losses = {MAIN_ONLY: _held_losses(task, outside), TEACHER: found["losses"]}
    right = {MAIN_ONLY: _held_right(task, outside), TEACHER: found["right"]}
    verdict = gate(losses)
    # Soft labels lower a loss also by making a student less sure of itself, so that it may not get more wrong either.
    better = verdict.chosen == TEACHER and right[TEACHER] >= right[MAIN_ONLY]
    details: dict[str, Any] = {
        "chosen": TEACHER if better else MAIN_ONLY,
        "weights": dict(zip(VIEWS, found["weights"], strict=True)),
        "weights before the students": dict(zip(VIEWS, found["fitted"], strict=True)),
        "held-back loss": verdict.loss,
        "held-back accuracy, %": right,
    }
    chosen = trained(WithPool(task, found["labels"]), place, "ours", validate=task.validate) if better else plain
    forget_parts(place)
    return Outcome(chosen, details)


def _learned(task: GeneratedTask, known: Opinions, part: Place) -> dict[str, Any]:
    teacher = fitted_teacher(task, known)
    fitted = cast("list[float]", teacher.weights.tolist())
    course = Refinement(task, known, teacher)
    go(course, steps_in(task), part, key=key_of(task, TEACHER), looks=task.settings.looks, validate=None)
    final: PooledLabels = course.learned.cpu()
    with torch.no_grad():
        labels = torch.cat([final(some) for some in torch.split(known.pool, 4096)])
    students = [student.eval() for student in course.students]
    return {
        "weights": final.weights.tolist(),
        "fitted": fitted,
        "labels": labels,
        "losses": _held_losses(task, students),
        "right": _held_right(task, students),
    }


def _held_logits(task: GeneratedTask, students: list[Student]) -> tuple[Tensor, Tensor]:
    # Of every labelled image, by the student that has not seen its label.
    fold = folds_of(task.classes)
    logits = torch.zeros(len(fold), task.num_classes)
    for f, student in enumerate(students):
        rows = (fold == f).nonzero()[:, 0]
        logits[rows] = looked_at(task, student, task.pixels[rows])[1]
    return logits, task.classes


def _held_losses(task: GeneratedTask, students: list[Student]) -> Tensor:
    return functional.cross_entropy(*_held_logits(task, students), reduction="none")


def _held_right(task: GeneratedTask, students: list[Student]) -> float:
    logits, classes = _held_logits(task, students)
    return 100 * float((logits.argmax(1) == classes).float().mean())
