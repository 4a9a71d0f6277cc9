"""Our way: opinions about the pool, a teacher that weighs them, a gate, and a student of what it writes."""

from typing import Any, cast

import torch
from torch import Tensor

from auxilearn.experiments.reproduce._loop import go
from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce._reproduction import Outcome
from auxilearn.experiments.reproduce.generated._course import steps_in
from auxilearn.experiments.reproduce.generated._networks import Student
from auxilearn.experiments.reproduce.generated._opinions import FOLDS, VIEWS, Opinions, folds_of, opinions_of
from auxilearn.experiments.reproduce.generated._parts import (
    adopt_curve,
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
from auxilearn.experiments.reproduce.metrics._accuracy import top_k
from auxilearn.generators import PooledLabels
from auxilearn.training._gate import calibrated_losses, gate

MAIN_ONLY, TEACHER = "main only", "teacher"
_SURE = 1.0


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
        adopt_curve(place, MAIN_ONLY)
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
    held = {MAIN_ONLY: _held_logits(task, outside), TEACHER: found["held"]}
    # Soft labels make a student less sure of itself, which lowers its loss, but is no gain: both are calibrated first.
    verdict = gate({name: calibrated_losses(z, task.classes) for name, z in held.items()}, threshold=_SURE)
    better = verdict.chosen == TEACHER
    details: dict[str, Any] = {
        "chosen": verdict.chosen,
        "gain of the teacher, in standard errors": verdict.t[TEACHER],
        "held-back loss, calibrated": verdict.loss,
        "held-back accuracy, %": {name: top_k(z, task.classes) for name, z in held.items()},
        "weights": dict(zip(VIEWS, found["weights"], strict=True)),
        "weights before the students": dict(zip(VIEWS, found["fitted"], strict=True)),
    }
    if better:
        chosen = trained(WithPool(task, found["labels"]), place, "ours", validate=task.validate)
    else:
        chosen = plain
        adopt_curve(place, MAIN_ONLY)
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
        "held": _held_logits(task, students),
    }


def _held_logits(task: GeneratedTask, students: list[Student]) -> Tensor:
    # Of every labelled image, by the student that has not seen its label.
    fold = folds_of(task.classes)
    logits = torch.zeros(len(fold), task.num_classes)
    for f, student in enumerate(students):
        rows = (fold == f).nonzero()[:, 0]
        logits[rows] = looked_at(task, student, task.pixels[rows])[1]
    return logits
