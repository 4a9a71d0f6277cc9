"""From published images to a task with few labels, its networks and its metrics."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from auxilearn._checks import explain
from auxilearn.data.published import ClassifiedImages, draw_few, kept_split, labelled_rows
from auxilearn.errors import InputError
from auxilearn.experiments.reproduce._augment import CropFlip
from auxilearn.experiments.reproduce._recipe import Recipe
from auxilearn.experiments.reproduce._reproduction import Literature, Metric, PaperCell, Setup, Stated
from auxilearn.experiments.reproduce.generated._few_settings import FewSettings
from auxilearn.experiments.reproduce.generated._methods import OURS, PLAIN, generated_methods
from auxilearn.experiments.reproduce.generated._networks import Student
from auxilearn.experiments.reproduce.generated._task import Augment, GeneratedTask
from auxilearn.experiments.reproduce.metrics._accuracy import top_k
from auxilearn.models import ConvFourHeads, ResNetHeads, VGG16Heads, WideResNetHeads

_SMALL = (8, 8, 16, 16)
_HIDDEN = 512
_TEACHERS = 1_000_000  # between the seeds of a student and its teacher
_AT_ONCE = 256

Read = Callable[[Path, str, int], ClassifiedImages]
"""From the data's folder, the part and the side of photographs to the images."""

METHODS_ABOUT = (
    "All methods share the labelled images, the split, the initial weights of body and main head, the optimizer, and "
    "the batches with their crops. MAXL and AuxiLearn 1.0 write sub-classes of the labelled images, under focal "
    "losses, as published; AuxiLearn 1.0 holds back its auxiliary set of the labels, the others none. The repaired "
    "AuxiLearn is the same model under our numerics. Self-training and ours use the rest of the training images "
    "besides, without their labels, which the paper's methods do not: compare ours with self-training, too. Ours "
    "weighs four opinions about the pool, three of them labels spread along neighbour graphs, by a teacher of five "
    "parameters over x alone, learned through students' held-back main losses. It is main only where held-back "
    "labels do not speak for the teacher."
)
"""What the methods of all these experiments have in common."""


def few_cell(
    name: str, recipe: Recipe[FewSettings], read: Read, augment: Callable[[FewSettings], CropFlip], row: str
) -> PaperCell:
    """Put a setting together.

    Args:
        name: Of the setting.
        recipe: Its hyperparameters.
        read: Reads the images.
        augment: How they are cropped.
        row: The experiment's name in the paper's table.

    Returns:
        The setting.
    """
    return PaperCell(
        name=name,
        metrics=(Metric("top-1"), Metric("top-3")),
        recipe=recipe,
        task=lambda setup: few_task(setup, setup.of(recipe), read, augment(setup.of(recipe))),
        measure=measured,
        methods=generated_methods(),
        plain=PLAIN,
        ours=OURS,
        literature=(
            Literature(
                "Navon et al., ICLR 2021",
                {method: {"top-1": Stated(*found)} for method, found in zip(_METHODS, _NUMBERS[row], strict=True)},
            ),
        ),
        same={PLAIN: "STL", "AuxiLearn 1.0": "AuxiLearn"},
    )


def few_task(setup: Setup, settings: FewSettings, read: Read, augment: Augment) -> GeneratedTask:
    """Draw the labels of a seed, or read them again, and put the task together.

    Args:
        setup: The set-up.
        settings: The hyperparameters.
        read: Reads the images.
        augment: How they are cropped.

    Returns:
        The task.

    Raises:
        InputError: If there is nothing to test on, or the data or the split break a rule.
    """
    train, test = (_images(read, setup.data, part, settings.size) for part in ("train", "test"))
    if not len(test):
        rule, finding = "There must be test images.", f"`{setup.data}` lists none."
        raise InputError(explain(rule, finding, "Get the lists of the data set anew."))
    parts = kept_split(
        setup.splits / f"seed-{setup.seed}.json",
        lambda: draw_few(
            train.classes,
            per_class=round(settings.labelled) if settings.labelled >= 1 else None,
            share=settings.labelled if settings.labelled < 1 else None,
            validation=settings.validation,
            held_out=settings.held_out,
            generator=torch.Generator().manual_seed(setup.seed),
        ),
        labels=train.classes,
    )
    labelled, held_out = labelled_rows(parts)
    checked, classes = parts["validation"], len(train.names)
    of_teachers = replace(setup, seed=setup.seed + _TEACHERS, pretrained=None)
    task = GeneratedTask(
        pixels=train.pixels[labelled],
        classes=train.classes[labelled],
        num_classes=classes,
        pool=train.pixels[parts["pool"]],
        held_out=held_out,
        augment=augment,
        student=lambda heads: _student(setup, settings, [classes, heads] if heads else [classes]),
        teacher=lambda outputs: _network(settings, [outputs], of_teachers).to(setup.device),
        settings=settings,
        seed=setup.seed,
        validate=(lambda model: top_k(*logits_of(task, model, train[checked]))) if len(checked) else None,
        test=(test.pixels, test.classes),
        device=setup.device,
    )
    return task


def photographs(settings: FewSettings) -> CropFlip:
    """Crop photographs as the original code does for pets.

    Args:
        settings: The hyperparameters.

    Returns:
        Random crops and flips, ImageNet's colours.
    """
    return CropFlip(settings.side)


def measured(task: GeneratedTask, model: nn.Module) -> Mapping[str, float]:
    """Measure the test accuracy.

    Args:
        task: The task.
        model: A student in evaluation mode.

    Returns:
        How often the class is the first guess, and among the first three, in percent.
    """
    logits, classes = logits_of(task, model, ClassifiedImages(*task.test, ()))
    return {"top-1": top_k(logits, classes), "top-3": top_k(logits, classes, k=3)}


@torch.no_grad()
def logits_of(task: GeneratedTask, model: nn.Module, images: ClassifiedImages) -> tuple[Tensor, Tensor]:
    """Read images with a student, without random crops.

    Args:
        task: The task.
        model: A student in evaluation mode.
        images: The images.

    Returns:
        The main logits, shape (N, C), and the classes, on the CPU.
    """
    parts = torch.split(images.pixels, _AT_ONCE)
    found = [model(task.augment(part.to(task.device), None))[0].cpu() for part in parts]
    return torch.cat(found), images.classes


def _student(setup: Setup, settings: FewSettings, outputs: list[int]) -> Student:
    return Student(_network(settings, outputs, setup)).to(setup.device)


def _network(settings: FewSettings, outputs: list[int], setup: Setup) -> nn.Module:
    seed, name = setup.seed, settings.network
    if name in ("ResNet-18", "ResNet-50"):
        depth = 18 if name == "ResNet-18" else 50
        return ResNetHeads(outputs, seed=seed, depth=depth, hidden=_HIDDEN, pretrained=setup.pretrained)
    setup.refuse_pretrained(name)
    if name == "VGG-16":
        return VGG16Heads(outputs, seed=seed)
    if name == "WideResNet-16-4":
        return WideResNetHeads(outputs, seed=seed)
    if name == "four convolutions":
        return ConvFourHeads(outputs, seed=seed, side=settings.side)
    return ConvFourHeads(outputs, seed=seed, side=settings.side, channels=_SMALL)


@lru_cache(maxsize=2)  # the two parts of one data set, which all methods and seeds share
def _images(read: Read, folder: Path, part: str, size: int) -> ClassifiedImages:
    return read(folder, part, size)


_METHODS = ("STL", "MAXL-F", "MAXL", "AuxiLearn")
_NUMBERS: dict[str, list[tuple[float, float]]] = {
    "CIFAR-10": [(50.8, 0.8), (56.1, 0.1), (58.2, 0.3), (60.7, 1.3)],
    "CIFAR-100": [(19.8, 0.7), (20.4, 0.6), (21.0, 0.4), (21.5, 0.3)],
    "SVHN": [(72.9, 0.3), (75.4, 0.3), (75.5, 0.4), (76.4, 0.2)],
    "CUB": [(37.2, 0.8), (39.6, 1.3), (40.7, 0.6), (44.5, 0.3)],
    "Pet": [(26.1, 0.5), (26.2, 0.3), (26.3, 0.6), (37.0, 0.6)],
    "Cars": [(59.2, 0.4), (59.6, 1.1), (60.4, 0.8), (64.4, 0.3)],
}
