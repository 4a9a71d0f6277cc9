"""Digits in colour, with few labels: a task for the methods that write labels, which needs no file."""

import functools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from auxilearn.data import sklearn_digits
from auxilearn.data.published import draw_few, labelled_rows
from auxilearn.experiments.reproduce.generated._networks import Student
from auxilearn.experiments.reproduce.generated._task import GeneratedSettings, GeneratedTask
from auxilearn.models import ConvFourHeads

SETTINGS = GeneratedSettings(
    epochs=6,
    batch=8,
    optimizer="adam",
    lr=3e-3,
    weight_decay=0.0,
    schedule="cosine",
    looks=2,
    seeds=1,
    terms=3,
    alpha=1e-3,
    every=5,
    outer_lr=1e-3,
    outer_decay=5e-3,
    clip=50.0,
    held_out=0.1,
    outer_batch=4,
    subclasses=3,
    aux_scale=0.25,
    maxl_lr=1e-2,
    maxl_decay=5e-4,
    maxl_penalty=0.2,
    pool_batch=16,
)
CHANNELS = (4, 8, 8, 16)


@functools.cache
def digits(side: int = 16) -> tuple[Tensor, Tensor]:
    """Digits from 0 to 255 in colours that say nothing about their class."""
    images = sklearn_digits(side=side)
    grey = images.pixels - images.pixels.amin()
    grey = grey / grey.amax()
    generator = torch.Generator().manual_seed(0)
    stroke, paper = torch.rand(2, len(grey), 3, 1, 1, generator=generator)
    stroke, paper = 0.6 + 0.4 * stroke, 0.4 * paper
    coloured = grey[:, None] * stroke + (1 - grey[:, None]) * paper
    return (255 * coloured).to(torch.uint8), images.classes


def augment(pixels: Tensor, generator: torch.Generator | None) -> Tensor:
    """Shift by a pixel, and standardise."""
    x = pixels.float() / 127.5 - 1
    if generator is None:
        return x
    down, right = (int(n) - 1 for n in torch.randint(3, (2,), generator=generator))
    return x.roll((down, right), (2, 3))


def student(heads: int, *, seed: int, channels: tuple[int, int, int, int] = CHANNELS) -> Student:
    return Student(ConvFourHeads([10, heads] if heads else [10], seed=seed, channels=channels, side=16))


def task(seed: int = 0, *, per_class: int = 4, pool: int = 60, test: int = 200, **changes: Any) -> GeneratedTask:
    """Draw the labels and the pool; without a pool all of it is empty."""
    pixels, classes = digits()
    settings = replace(SETTINGS, **changes)
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    tested, rest = order[:test], order[test:]
    parts = draw_few(
        classes[rest],
        per_class=per_class,
        held_out=settings.held_out,
        generator=torch.Generator().manual_seed(seed),
    )
    labelled, held_out = labelled_rows(parts)
    return GeneratedTask(
        pixels=pixels[rest[labelled]],
        classes=classes[rest[labelled]],
        num_classes=10,
        pool=pixels[rest[parts["pool"][torch.randperm(len(parts["pool"]), generator=torch.manual_seed(seed))[:pool]]]],
        held_out=held_out,
        augment=augment,
        student=functools.partial(student, seed=seed),
        teacher=lambda outputs: ConvFourHeads([outputs], seed=seed + 1, channels=CHANNELS, side=16),
        settings=settings,
        seed=seed,
        validate=None,
        test=(pixels[tested], classes[tested]),
        device=torch.device("cpu"),
    )


@torch.no_grad()
def accuracy(found: GeneratedTask, model: Student) -> float:
    pixels, classes = found.test
    return 100 * float((model(found.augment(pixels, None))[0].argmax(1) == classes).float().mean())
