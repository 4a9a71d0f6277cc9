"""Methods of several parts: each part is done once, and its outcome kept."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from auxilearn.experiments.reproduce._loop import Validate, go
from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce.generated._course import Course, steps_in
from auxilearn.experiments.reproduce.generated._networks import Student
from auxilearn.experiments.reproduce.generated._task import GeneratedTask
from auxilearn.training._checkpoint import Checkpoint

_AT_ONCE = 256
_DONE = "done"


def key_of(task: GeneratedTask, name: str) -> str:
    """Say what a run is, so that no checkpoint of another is gone on from.

    Args:
        task: The task.
        name: Of the method, or a part of it.

    Returns:
        The key.
    """
    sizes = f"{tuple(task.pixels.shape)} labelled, {tuple(task.pool.shape)} not, {int(task.classes.sum())}"
    return f"{name}; seed {task.seed}; {sizes}; {task.settings}"


def trained(course: Course, place: Place, name: str, *, validate: Validate | None) -> Student:
    """Take all steps of a course, or those that are left.

    Args:
        course: The course.
        place: Where it is kept.
        name: Of the method, or a part of it.
        validate: See :func:`go`.

    Returns:
        The student, in evaluation mode.
    """
    task = course.task
    go(course, steps_in(task), place, key=key_of(task, name), looks=task.settings.looks, validate=validate)
    return course.student


def kept(task: GeneratedTask, place: Place, name: str, make: Callable[[Place], dict[str, Any]]) -> dict[str, Any]:
    """Do a part of a run, unless it was done before.

    Args:
        task: The task.
        place: The run's.
        name: Of the part, and of its folder.
        make: From the part's own place to its outcome: tensors, numbers and strings in dictionaries and lists.

    Returns:
        The outcome, on the CPU if it was read.
    """
    folder = place.folder / name
    done, key = Checkpoint(folder / _DONE), key_of(task, name)
    state = done.load(key)
    if state is None:
        folder.mkdir(parents=True, exist_ok=True)

        def progress(phase: str, step: int, steps: int) -> None:
            place.progress(name, step, steps)

        part = replace(place, folder=folder, progress=progress)
        state = make(part)
        done.save(key, state)
    return state


def forget_parts(place: Place) -> None:
    """Delete what the parts of a finished run kept, but for their curves: nobody goes on from it.

    Args:
        place: The run's.
    """
    for part in place.folder.iterdir():
        if part.is_dir():
            shutil.rmtree(part / _DONE, ignore_errors=True)
            (part / "checkpoint.pt").unlink(missing_ok=True)


def adopt_curve(place: Place, name: str) -> None:
    """Take the curve of a part as the run's, because the run returns what that part trained.

    Args:
        place: The run's.
        name: Of the part.
    """
    shutil.copyfile(replace(place, folder=place.folder / name).curve, place.curve)


def kept_student(
    task: GeneratedTask, place: Place, name: str, make: Callable[[], Course], *, validate: Validate | None
) -> Student:
    """Train a student as a part of a run, unless that was done before.

    Args:
        task: The task.
        place: The run's.
        name: Of the part.
        make: Builds the course.
        validate: See :func:`go`.

    Returns:
        The student, in evaluation mode.
    """
    state = kept(
        task, place, name, lambda part: {"weights": trained(make(), part, name, validate=validate).state_dict()}
    )
    student = task.student(0)
    student.load_state_dict(state["weights"])
    return student.eval()


@torch.no_grad()
def looked_at(task: GeneratedTask, student: Student, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Read images with a student in evaluation mode, without random crops.

    Args:
        task: The task.
        student: The student.
        pixels: Bytes, shape (N, 3, H, W).

    Returns:
        Its features, shape (N, D), and its main logits, shape (N, C), on the CPU.
    """
    found = [
        tuple(part.cpu() for part in student.features(task.augment(images.to(task.device), None)))
        for images in torch.split(pixels, _AT_ONCE)
    ]
    return torch.cat([features for features, _ in found]), torch.cat([logits for _, logits in found])
