"""A reproduction of nothing: digits with a few losses, in the form of the paper's experiments."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from auxilearn.data import sklearn_digits
from auxilearn.data.published import PublishedFile
from auxilearn.experiments.reproduce._recipe import recipe
from auxilearn.experiments.reproduce._reproduction import Literature, Metric, PaperCell, Reproduction, Setup, Stated
from auxilearn.experiments.reproduce.combined._methods import combined_methods
from auxilearn.experiments.reproduce.combined._task import CombinedSettings, CombinedTask
from auxilearn.models import MLP, SegNet
from auxilearn.training import Problem

RECIPE = recipe(
    CombinedSettings,
    epochs=(40, 10, "ours: nobody published this"),
    batch=(20, 20, "ours"),
    optimizer=("adam", "adam", "ours"),
    lr=(3e-3, 3e-3, "ours"),
    weight_decay=(0.0, 0.0, "ours"),
    schedule=("halved", "cosine", "ours"),
    looks=(4, 4, "ours"),
    seeds=(2, 1, "ours"),
    terms=(3, 3, "paper"),
    alpha=(1e-4, 1e-4, "original code"),
    every=(5, 5, "original code"),
    outer_lr=(1e-3, 1e-3, "original code"),
    outer_decay=(1e-4, 1e-4, "original code"),
    clip=(25.0, 25.0, "original code"),
    held_out=(0.2, 0.2, "ours"),
    outer_batch=(4, 4, "original code"),
)


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    images = sklearn_digits()
    return images.pixels, images.classes


def losses(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    out = model(x)
    main = functional.cross_entropy(out[:, :10], y, reduction="none")
    odd = functional.binary_cross_entropy_with_logits(out[:, 10], (y % 2).float(), reduction="none")
    return torch.stack([main, odd, (out[:, 11] - x.flatten(1).mean(1)).square()], 1)


def task(setup: Setup) -> CombinedTask:
    x, y = _digits()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(setup.seed))
    train, validation, test = order[:80], order[80:160], order[160:560]
    return CombinedTask(
        problem=Problem(
            functools.partial(MLP, x[0].numel(), outputs=12, seed=setup.seed),
            losses,
            (x[train], y[train]),
            names=("class", "odd", "ink"),
        ),
        settings=setup.of(RECIPE),
        epoch=80,
        seed=setup.seed,
        held_out=torch.arange(16),
        validate=lambda model: accuracy(model, x[validation], y[validation]),
        pixels=None,
        test=(x[test], y[test]),
    )


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return 100 * float((model(x)[:, :10].argmax(1) == y).float().mean())


def measure(found: Any, model: nn.Module) -> Mapping[str, float]:
    value = accuracy(model, *found.test)
    return {"accuracy": value, "error": 100 - value}


CELL = PaperCell(
    name="digits, tiny",
    metrics=(Metric("accuracy", digits=1), Metric("error", better="lower", digits=1)),
    recipe=RECIPE,
    task=task,
    measure=measure,
    methods=combined_methods(),
    plain="main only",
    ours="ours",
    literature=(
        Literature("Nobody, 2021", {"STL": {"accuracy": Stated(70.0, 0.5)}, "Magic": {"accuracy": Stated(99.0)}}),
    ),
    same={"main only": "STL"},
)

TINY = Reproduction(
    name="tiny",
    title="Tiny digits",
    about="Nothing.",
    files=(PublishedFile("digits.txt", "https://example.org/digits"),),
    cells=(CELL,),
)


def pixel_task(seed: int = 0) -> CombinedTask:
    """Three losses for each pixel of random images; a tenth of the pixels has no class."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(12, 3, 8, 8, generator=generator)
    y = (x.sum(1) > 1.5).long()
    y[torch.rand(y.shape, generator=generator) < 0.1] = -1

    def pixels(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = batch
        out = model(x)
        main = functional.cross_entropy(out[:, :2], y, reduction="none", ignore_index=-1)
        red = (out[:, 2] - x[:, 0]).square()
        present = torch.stack([y >= 0, torch.ones_like(y, dtype=torch.bool)], 1)
        return torch.stack([main, red], 1) * present, present

    def samples(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        values, present = pixels(model, batch)
        return values.sum((2, 3)) / present.sum((2, 3)).clamp(min=1)

    return CombinedTask(
        problem=Problem(
            functools.partial(SegNet, outputs=3, width=2, seed=seed), samples, (x, y), names=("class", "red")
        ),
        settings=RECIPE.smoke,
        epoch=40,
        seed=seed,
        held_out=torch.arange(3),
        validate=None,
        pixels=pixels,
        test=None,
    )


def data(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "digits.txt").write_text("real digits ship in scikit-learn\n")
    return folder
