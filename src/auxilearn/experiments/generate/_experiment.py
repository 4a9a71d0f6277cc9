"""``generate``: auxiliary labels that are learned, on real images with few labels."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from auxilearn.data import Images, mnist_5k, sklearn_digits
from auxilearn.experiments.generate._fixed import (
    fitted_teacher,
    spread_labels,
    train_clusters,
    train_random,
    train_self,
)
from auxilearn.experiments.generate._opinions import VIEWS, Opinions, opinions
from auxilearn.experiments.generate._rivals import train_maxl, train_original
from auxilearn.experiments.generate._task import FOLDS, GenerateTask, Student, draw_task, train
from auxilearn.experiments.generate._teacher import TeacherSearch, distil, learn_teacher
from auxilearn.experiments.harness._experiment import Cell, Experiment, Result
from auxilearn.generators import PooledLabels

OURS = "learned teacher"

_REFINE = TeacherSearch()
_ALONE = TeacherSearch(rate=0.05)
_START = 8.0
_SHARP = 16.0  # the best of 4, 8 and 16 for equal weights on seeds from 100 on


def _of_student(make: Callable[[GenerateTask], Student]) -> Callable[[Any, int], Result]:
    def run(task: GenerateTask, seed: int) -> Result:
        start = time.process_time()
        student = make(task)
        seconds = time.process_time() - start
        return Result(task.accuracy(lambda x: student(x)[0]), seconds, {})

    return run


def _of_labels(
    write: Callable[[GenerateTask, Opinions], tuple[Tensor, PooledLabels | None]],
) -> Callable[[Any, int], Result]:
    def run(task: GenerateTask, seed: int) -> Result:
        start = time.process_time()
        known = opinions(task.main_x, task.main_y, task.pool_x, folds=FOLDS, seed=task.seed)
        labels, teacher = write(task, known)
        student = distil(task, labels)
        seconds = time.process_time() - start
        details: dict[str, Any] = {"right labels of the pool, %": task.agreement(labels)}
        if teacher is not None:
            details |= {"weights": teacher.weights.tolist(), "kinds": list(VIEWS)}
        return Result(task.accuracy(lambda x: student(x)[0]), seconds, details)

    return run


@torch.no_grad()
def _written(known: Opinions, teacher: PooledLabels) -> tuple[Tensor, PooledLabels]:
    return teacher(known.pool), teacher


def _equal(task: GenerateTask, known: Opinions) -> PooledLabels:
    return PooledLabels(len(VIEWS), sharpness=_START)


def _fitted(task: GenerateTask, known: Opinions) -> PooledLabels:
    return fitted_teacher(known, task.main_y, sharpness=_START)


METHODS: dict[str, Callable[[Any, int], Result]] = {
    "main only": _of_student(train),
    "random labels": _of_student(train_random),
    "fixed clusters": _of_student(train_clusters),
    "self-training": _of_student(train_self),
    "MAXL-F": _of_student(lambda task: train_maxl(task, learned=False)),
    "MAXL": _of_student(train_maxl),
    "MAXL over x, on the pool": _of_student(lambda task: train_maxl(task, pool=True)),
    "AuxiLearn 1.0.0": _of_student(train_original),
    "spread labels, equal views": _of_labels(lambda task, known: (spread_labels(known, sharpness=_SHARP), None)),
    "spread labels, views fitted": _of_labels(lambda task, known: _written(known, _fitted(task, known))),
    f"{OURS}, students alone": _of_labels(
        lambda task, known: _written(known, learn_teacher(task, known, _equal(task, known), _ALONE))
    ),
    OURS: _of_labels(lambda task, known: _written(known, learn_teacher(task, known, _fitted(task, known), _REFINE))),
}


@cache
def _mnist() -> Images:
    return mnist_5k()


@cache
def _digits() -> Images:
    return sklearn_digits()


GENERATE = Experiment(
    name="generate",
    title="Learned auxiliary labels, 5 labels a class",
    about=(
        "50 labelled images and 1,000 without a label, of MNIST-5k or scikit-learn's digits at 14 × 14; a small "
        "convolutional network, 300 steps of Adam. Nothing is simulated. All methods share the labels, the pool, the "
        "initial weights of body and main head, and the batches. MAXL and the original AuxiLearn write sub-classes of "
        "the labelled images only, as published, but under the cross entropy: the published focal loss was worse; MAXL "
        "over x labels the pool. The learned teacher sees x alone: it weighs eight views' opinions of the pool (the "
        "labels, spread along neighbour graphs). It starts from the weights that fit the held-back labels directly; "
        "the implicit hypergradient of the held-back main losses of five students refines them. Students alone start "
        "from equal weights. The equal and the fitted views say what the opinions bring without students: most of the "
        "gain."
    ),
    cells=(
        Cell("MNIST-5k, 5 labels a class", "accuracy, %", lambda seed: draw_task(_mnist(), seed), METHODS),
        Cell("digits, 5 labels a class", "accuracy, %", lambda seed: draw_task(_digits(), seed), METHODS),
    ),
    ours=OURS,
)
