"""CUB-200-2011: few labels of species, and 312 attributes of every training image."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from auxilearn.data.published import (
    ClassifiedImages,
    cub_classes,
    draw_few,
    kept_split,
    labelled_rows,
    read_cub,
)
from auxilearn.experiments.reproduce._augment import CropFlip, FreshViews
from auxilearn.experiments.reproduce._recipe import Recipe
from auxilearn.experiments.reproduce._reproduction import Literature, Metric, PaperCell, Row, Setup, Stated
from auxilearn.experiments.reproduce.combined._cub_recipe import FIVE, TEN, CubSettings
from auxilearn.experiments.reproduce.combined._methods import OURS, PLAIN, combined_methods
from auxilearn.experiments.reproduce.combined._task import CombinedTask
from auxilearn.experiments.reproduce.metrics._accuracy import top_k
from auxilearn.models import ConvFourHeads, ResNetHeads
from auxilearn.training import Problem

SPECIES = 200
HIDDEN = -1
"""The class of a training image whose label is not to be used."""
_VISIBLE = 2  # certainties from here on: guessing, probably, definitely


@final
@dataclass(frozen=True)
class Birds:
    """Images with a class, and how a network looks at them.

    Attributes:
        pixels: Shape (N, 3, H, W), bytes.
        classes: Shape (N,).
        augment: Crops the centre and standardises.
        device: Where the network lives.
        at_once: Images a forward pass.
    """

    pixels: Tensor
    classes: Tensor
    augment: CropFlip
    device: torch.device
    at_once: int

    @torch.no_grad()
    def accuracy(self, model: nn.Module, *, k: int = 1) -> float:
        """Measure how often the species is among the first k.

        Args:
            model: A network in evaluation mode.
            k: How many guesses are allowed.

        Returns:
            In percent.
        """
        parts = cast("tuple[Tensor, ...]", self.pixels.split(self.at_once))
        found = [model(self.augment(part.to(self.device), None))[0].cpu() for part in parts]
        return top_k(torch.cat(found), self.classes, k=k)


def species_and_attributes(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    r"""Compute the losses of each image: cross entropy of the species, binary cross entropy of each attribute.

    Args:
        model: A network with a head for the species, and one with a logit for each attribute.
        batch: Views; species (-1 where it is hidden), (B,); whether each attribute is present, (B, A), and visible.

    Returns:
        The losses, (B, 1 + A), and which exist: the species where it is not hidden, attributes where they are visible.
    """
    views, species, present, visible = batch
    logits, attributes = model(views)
    main = functional.cross_entropy(logits, species, ignore_index=HIDDEN, reduction="none")
    others = functional.binary_cross_entropy_with_logits(attributes, present.to(attributes.dtype), reduction="none")
    exists = torch.cat([(species != HIDDEN)[:, None], visible], 1)
    return torch.cat([main[:, None], others], 1), exists


def species_logits(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the main head's logits and the species.

    Args:
        model: The network.
        batch: As for :func:`species_and_attributes`.

    Returns:
        Shapes (B, 200) and (B,).
    """
    return model(batch[0])[0], batch[1]


def attributes_task(setup: Setup, *, recipe: Recipe[CubSettings]) -> CombinedTask:
    """Read the images, draw the labels, and build the network.

    Args:
        setup: The set-up.
        recipe: The hyperparameters.

    Returns:
        The task: losses 0 to A are the species and the attributes; all training images but those of the validation
        have attributes, the first rows have a species.
    """
    settings = setup.of(recipe)
    train, test = _images(setup.data, settings.size, settings.images)
    parts = kept_split(
        setup.splits / f"seed-{setup.seed}.json",
        lambda: draw_few(
            train.classes,
            per_class=settings.shots,
            validation=settings.validation,
            held_out=settings.held_out,
            generator=torch.Generator().manual_seed(setup.seed),
        ),
        labels=train.classes,
    )
    labelled, held_out = labelled_rows(parts)
    rows = torch.cat([labelled, parts["pool"]])
    species = train.classes[rows].clone()
    species[len(labelled) :] = HIDDEN
    present, certainty = cast("Tensor", train.attributes), cast("Tensor", train.certainty)
    kept = slice(settings.attributes)
    augment = CropFlip(settings.crop)
    columns = (train.pixels[rows], species, present[rows, kept], certainty[rows, kept] >= _VISIBLE)
    # A gigabyte of bytes on the device, where crops cost nothing.
    views = FreshViews(*(column.to(setup.device) for column in columns), augment=augment)
    birds = partial(Birds, augment=augment, device=setup.device, at_once=settings.measured)
    validation = birds(train.pixels[parts["validation"]], train.classes[parts["validation"]])
    return CombinedTask(
        problem=Problem(
            partial(_network, settings, setup),
            species_and_attributes,
            views.loader(settings.batch),
            labelled=torch.arange(len(labelled)),
            logits=species_logits,
            names=("species", *train.attribute_names[kept]),
        ),
        settings=settings,
        epoch=len(labelled),
        seed=setup.seed,
        held_out=held_out,
        validate=validation.accuracy,
        pixels=None,
        test=birds(test.pixels, test.classes),
    )


def measure(task: CombinedTask, model: nn.Module) -> Mapping[str, float]:
    """Measure the test images.

    Args:
        task: The task.
        model: A trained network in evaluation mode.

    Returns:
        Accuracies in percent.
    """
    test: Birds = task.test
    return {"top-1": test.accuracy(model), "top-3": test.accuracy(model, k=3)}


def _network(settings: CubSettings, setup: Setup) -> nn.Module:
    outputs = (SPECIES, settings.attributes)
    if settings.network == "ResNet-18":
        return ResNetHeads(outputs, seed=setup.seed, depth=18, pretrained=setup.pretrained).to(setup.device)
    setup.refuse_pretrained(settings.network)
    return ConvFourHeads(outputs, seed=setup.seed, channels=(8, 16, 16, 16), side=settings.crop).to(setup.device)


@lru_cache(maxsize=1)  # every method and seed reads the same
def _images(folder: Path, size: int, most: int) -> tuple[ClassifiedImages, ClassifiedImages]:
    train = read_cub(folder, "train", size=size, rows=_first(cub_classes(folder, "train"), most))
    test = read_cub(folder, "test", size=size, rows=_first(cub_classes(folder, "test"), most), attributes=False)
    return train, test


def _first(classes: Tensor, most: int) -> Tensor:
    found = [(classes == species).nonzero()[:most, 0] for species in range(SPECIES)]
    return torch.cat(found).sort().values


def _cell(
    shots: int, recipe: Recipe[CubSettings], stated: Mapping[str, tuple[float, float, float, float]]
) -> PaperCell:
    rows: dict[str, Row] = {
        name: {"top-1": Stated(one, error), "top-3": Stated(three, other)}
        for name, (one, error, three, other) in stated.items()
    }
    return PaperCell(
        name=f"attributes, {shots}-shot",
        metrics=(Metric("top-1"), Metric("top-3")),
        recipe=recipe,
        task=partial(attributes_task, recipe=recipe),
        measure=measure,
        methods=combined_methods(),
        plain=PLAIN,
        ours=OURS,
        literature=(Literature("Navon et al., ICLR 2021", rows),),
        same={
            PLAIN: "STL",
            "equal": "Equal",
            "uncertainty": "Uncertainty",
            "AuxiLearn, linear": "AuxiLearn linear",
            "AuxiLearn, deep linear": "AuxiLearn deep linear",
            "AuxiLearn, nonlinear": "AuxiLearn nonlinear",
        },
    )


ATTRIBUTES = (
    _cell(
        5,
        FIVE,
        {
            "STL": (35.50, 0.7, 54.79, 0.7),
            "Equal": (41.47, 0.4, 62.62, 0.4),
            "Uncertainty": (35.22, 0.3, 54.99, 0.7),
            "DWA": (41.82, 0.1, 62.91, 0.4),
            "GradNorm": (41.49, 0.4, 63.12, 0.4),
            "GCS": (42.57, 0.7, 62.60, 0.1),
            "AuxiLearn linear": (41.71, 0.4, 63.73, 0.6),
            "AuxiLearn deep linear": (45.84, 0.3, 66.21, 0.5),
            "AuxiLearn nonlinear": (47.07, 0.1, 68.25, 0.3),
        },
    ),
    _cell(
        10,
        TEN,
        {
            "STL": (54.79, 0.3, 74.00, 0.1),
            "Equal": (55.36, 0.3, 75.51, 0.4),
            "Uncertainty": (53.75, 0.6, 73.25, 0.3),
            "DWA": (54.90, 0.3, 75.74, 0.3),
            "GradNorm": (55.23, 0.1, 75.62, 0.3),
            "GCS": (55.65, 0.2, 75.71, 0.1),
            "AuxiLearn linear": (54.77, 0.2, 75.51, 0.7),
            "AuxiLearn deep linear": (57.08, 0.2, 75.3, 0.6),
            "AuxiLearn nonlinear": (59.04, 0.2, 78.08, 0.2),
        },
    ),
)
"""The cells: 200 species from 5 or 10 images each are the main task, 312 attributes of all images auxiliary ones."""
