"""Every way to get auxiliary labels, from none to ours, by name."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce._reproduction import Outcome
from auxilearn.experiments.reproduce.generated._course import Course
from auxilearn.experiments.reproduce.generated._implicit import Original, Repaired
from auxilearn.experiments.reproduce.generated._maxl import Maxl
from auxilearn.experiments.reproduce.generated._ours import MAIN_ONLY, train_ours
from auxilearn.experiments.reproduce.generated._parts import adopt_curve, forget_parts, kept_student, looked_at, trained
from auxilearn.experiments.reproduce.generated._plain import MainOnly, RandomLabels, WithPool
from auxilearn.experiments.reproduce.generated._task import GeneratedTask

PLAIN, OURS = MAIN_ONLY, "ours"
SHARPENING = 2.0

Method = Callable[[GeneratedTask, Place], Outcome]


def generated_methods() -> dict[str, Method]:
    """List the methods.

    All share the labelled images, the initial weights of body and main head, the optimizer, and the batches with their
    crops and flips. Those of the pool use unlabelled images besides, which the paper's methods do not.

    Returns:
        Name to a function of the task and a place to work in, from the plain run to ours.

    Example:
        >>> list(generated_methods())[0], list(generated_methods())[-1]
        ('main only', 'ours')
    """
    return {
        PLAIN: _of(PLAIN, MainOnly),
        "random labels": _of("random labels", RandomLabels),
        "MAXL-F": _of("MAXL-F", lambda task: Maxl(task, learned=False)),
        "MAXL": _of("MAXL", Maxl),
        "AuxiLearn 1.0": _of("AuxiLearn 1.0", Original),
        "AuxiLearn, repaired": _of("AuxiLearn, repaired", Repaired),
        "self-training": train_self,
        OURS: train_ours,
    }


def train_self(task: GeneratedTask, place: Place) -> Outcome:
    """Train anew on what a student of the labels says of the pool, sharpened: a control for the use of the pool.

    Args:
        task: The task.
        place: Where everything is kept.

    Returns:
        The student.
    """
    plain = kept_student(task, place, PLAIN, lambda: MainOnly(task), validate=task.validate)
    if not len(task.pool):
        adopt_curve(place, PLAIN)
        forget_parts(place)
        return Outcome(plain, {"note": "The pool is empty: there is nothing to label."})
    labels: Tensor = (looked_at(task, plain, task.pool)[1] * SHARPENING).softmax(1)
    sure = float(labels.amax(1).mean())
    student = trained(WithPool(task, labels), place, "self-training", validate=task.validate)
    forget_parts(place)
    return Outcome(student, {"mean confidence": sure})


def _of(name: str, make: Callable[[GeneratedTask], Course]) -> Method:
    def run(task: GeneratedTask, place: Place) -> Outcome:
        course = make(task)
        student = trained(course, place, name, validate=task.validate)
        details: dict[str, Any] = {"labelled images trained on": len(course.rows)}
        if isinstance(course, Original | Repaired):
            details["weights"] = dict(zip(("main", "auxiliary"), course.weights(), strict=True))
        return Outcome(student, details)

    return run
