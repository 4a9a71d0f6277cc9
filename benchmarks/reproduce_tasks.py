"""Tasks of the paper's experiments with random data of the published shapes: what a step costs does not look at them.

Each has a few rows and takes STEPS steps; its network, batch and losses are those of the recipe. ``full`` is the number
of steps that the recipe takes on the published data.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auxilearn.experiments.reproduce._inner import steps_of
from auxilearn.experiments.reproduce._recipe import Budget, Recipe
from auxilearn.experiments.reproduce._reproduction import PaperCell, Setup

STEPS, EVERY = 5, 2
"""Steps of each measured run, and steps between two outer ones in it."""


@dataclass(frozen=True)
class Work:
    """What is measured.

    Attributes:
        task: What a method gets.
        full: The steps of a full run.
        every: Steps between two outer ones in the published method's full run.
    """

    task: Any
    full: int
    every: int


@dataclass(frozen=True)
class Shape:
    """The published data of a setting, as far as a step's cost depends on them.

    Attributes:
        rows: Training rows of an epoch: those with a label, without validation rows.
        make: Makes the task of a set-up, settings for a short run, and the setting.
    """

    rows: int
    make: Callable[[Setup, Any, PaperCell], Any]


def work(name: str, cell: PaperCell, budget: Budget, device: torch.device, folder: Path) -> Work:
    """Make a task with random data."""
    shape = SHAPES[name](cell)
    recipe: Recipe[Any] = cell.recipe
    settings = recipe.of(budget)
    # An epoch of a single batch: as many epochs as steps.
    short = replace(settings, epochs=STEPS, every=EVERY, looks=1)
    setup = Setup(folder, budget, 0, device, folder / "splits")
    task = replace(shape.make(setup, short, cell), validate=None)
    return Work(task, steps_of(settings, shape.rows), settings.every)


def dense(classes: int, side: tuple[int, int], *, normals: bool) -> Callable[[Setup, Any, PaperCell], Any]:
    """Build tasks of images with a truth for each pixel."""

    def make(setup: Setup, settings: Any, cell: PaperCell) -> Any:
        from auxilearn.data.published import DenseImages
        from auxilearn.experiments.reproduce.combined._dense_task import dense_task

        count = 2 * settings.batch + settings.outer_batch
        shape = tuple(length // settings.shrink for length in side)
        images = DenseImages(
            torch.rand(count, 3, *shape, generator=random()),
            torch.randint(-1, classes, (count, *shape), generator=random()),
            torch.rand(count, 1, *shape, generator=random()) + 0.1,
            torch.nn.functional.normalize(torch.randn(count, 3, *shape, generator=random())) if normals else None,
            tuple(map(str, range(classes))),
        )
        task = dense_task(setup, settings, images, images, name="random")
        return replace(task, epoch=settings.batch)

    return make


def attributes(setup: Setup, settings: Any, cell: PaperCell) -> Any:
    """Build the task of few labels and many attributes."""
    from functools import partial

    from auxilearn.experiments.reproduce._augment import CropFlip, FreshViews
    from auxilearn.experiments.reproduce.combined import _cub
    from auxilearn.experiments.reproduce.combined._task import CombinedTask
    from auxilearn.training import Problem

    held = min(settings.outer_batch, settings.batch)
    labelled = settings.batch + held
    rows = labelled + settings.batch
    species = torch.randint(_cub.SPECIES, (rows,), generator=random())
    species[labelled:] = _cub.HIDDEN
    present = torch.rand(2, rows, settings.attributes, generator=random()) < 0.5
    views = FreshViews(pixels(rows, settings.size), species, present[0], present[1], augment=CropFlip(settings.crop))
    return CombinedTask(
        problem=Problem(
            partial(_cub._network, settings, setup),
            _cub.species_and_attributes,
            views.loader(settings.batch),
            labelled=torch.arange(labelled),
            logits=_cub.species_logits,
            names=("species", *(f"attribute {k}" for k in range(settings.attributes))),
        ),
        settings=settings,
        epoch=settings.batch,
        seed=0,
        held_out=torch.arange(settings.batch, labelled),
        validate=None,
        pixels=None,
        test=None,
    )


def few(classes: int, crop: Callable[[Any], Any] | None = None) -> Callable[[Setup, Any, PaperCell], Any]:
    """Build tasks of few labelled images and learned labels."""

    def make(setup: Setup, settings: Any, cell: PaperCell) -> Any:
        from auxilearn.experiments.reproduce._augment import CropFlip
        from auxilearn.experiments.reproduce.generated import _few
        from auxilearn.experiments.reproduce.generated._task import GeneratedTask

        held = min(settings.outer_batch, settings.batch - 1)
        rows = settings.batch + held
        augment = (crop or (lambda s: CropFlip(s.side)))(settings)
        return GeneratedTask(
            pixels=pixels(rows, settings.size),
            classes=torch.arange(rows) % classes,
            num_classes=classes,
            pool=pixels(4 * settings.pool_batch, settings.size),
            held_out=torch.arange(settings.batch, rows),
            augment=augment,
            student=lambda heads: _few._student(setup, settings, [classes, heads] if heads else [classes]),
            teacher=lambda outputs: _few._network(settings, [outputs], setup).to(setup.device),
            settings=settings,
            seed=0,
            validate=None,
            test=(pixels(1, settings.size), torch.zeros(1, dtype=torch.long)),
            device=setup.device,
        )

    return make


def small_crops(settings: Any) -> Any:
    """Crop as for CIFAR and SVHN."""
    from auxilearn.experiments.reproduce._augment import CIFAR, CropFlip

    return CropFlip(settings.side, pad=4, colours=CIFAR)


def points(setup: Setup, settings: Any, cell: PaperCell) -> Any:
    """Build the task of point clouds."""
    from auxilearn.data.published import SHAPENET_CATEGORIES, PointClouds
    from auxilearn.experiments.reproduce.combined._shapenet import point_task

    rows, names = 2 * settings.batch, tuple(name for name, _, _ in SHAPENET_CATEGORIES)
    parts_of = tuple(parts for _, _, parts in SHAPENET_CATEGORIES)
    categories = torch.arange(rows) % len(names)
    part = torch.tensor([parts_of[category][0] for category in categories.tolist()])
    clouds = PointClouds(
        torch.rand(rows, settings.points, 3, generator=random()) - 0.5,
        torch.nn.functional.normalize(torch.randn(rows, settings.points, 3, generator=random()), dim=2),
        part[:, None].expand(-1, settings.points),
        categories,
        names,
        parts_of,
    )
    task = point_task(setup, settings, clouds, clouds, clouds, clouds)
    return replace(task, epoch=settings.batch, held_out=torch.arange(settings.batch, rows))


def pixels(rows: int, side: int) -> Tensor:
    """Return random bytes."""
    return torch.randint(256, (rows, 3, side, side), dtype=torch.uint8, generator=random())


def random() -> torch.Generator:
    """Return a generator of the same numbers."""
    return torch.Generator().manual_seed(0)


def of_birds(cell: PaperCell) -> Shape:
    """Tell the settings of CUB apart."""
    settings = cell.recipe.paper
    if hasattr(settings, "attributes"):
        return Shape(200 * settings.shots, attributes)
    return Shape(5994, few(200))


SHAPES: dict[str, Callable[[PaperCell], Shape]] = {
    "nyuv2": lambda cell: Shape(716, dense(13, (288, 384), normals=True)),
    "cub": of_birds,
    "cifar10": lambda cell: Shape(2500, few(10, small_crops)),
    "cifar100": lambda cell: Shape(2500, few(100, small_crops)),
    "svhn": lambda cell: Shape(3663, few(10, small_crops)),
    "pet": lambda cell: Shape(1110, few(37)),
    "cars": lambda cell: Shape(5880, few(196)),
    "cityscapes": lambda cell: Shape(2678, dense(19, (128, 256), normals=False)),
    "shapenet": lambda cell: Shape(160, points),
}
"""The shape of each setting, by the name of its reproduction. Published sizes: NYUv2 has 795 training images less 79
for validation, Cityscapes 2975 less 297, CIFAR 50,000 and SVHN 73,257, of which 5 % are labelled."""
