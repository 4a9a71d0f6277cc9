"""Cityscapes: segment streets, with the inverse depth as auxiliary task."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from auxilearn.data.published import CITYSCAPES_FILES, DenseImages, read_cityscapes
from auxilearn.experiments.reproduce._reproduction import Literature, Metric, PaperCell, Reproduction, Setup, Stated
from auxilearn.experiments.reproduce.combined._cityscapes_recipe import CITYSCAPES_RECIPE
from auxilearn.experiments.reproduce.combined._dense import shrunk
from auxilearn.experiments.reproduce.combined._dense_task import dense_task, measure
from auxilearn.experiments.reproduce.combined._methods import OURS, PLAIN, dense_methods
from auxilearn.experiments.reproduce.combined._task import CombinedTask

_LATER = {"STL": 48.64, "Equal": 37.66, "AuxiLearn": 36.18, "AuxiNash": 52.52}


def cityscapes_task(setup: Setup) -> CombinedTask:
    """Read Cityscapes, and make the task.

    Args:
        setup: The set-up. The paper's budget wants all published images.

    Returns:
        The task.
    """
    settings, complete = setup.of(CITYSCAPES_RECIPE), setup.budget == "paper"
    train, test = (_read(setup.data, part, settings.classes, settings.shrink, complete) for part in ("train", "test"))
    return dense_task(setup, settings, train, test, name="cityscapes")


@lru_cache(maxsize=2)
def _read(
    folder: Path, part: Literal["train", "test"], classes: Literal[7, 19], shrink: int, complete: bool
) -> DenseImages:
    # Once a process, for all methods and seeds: there are gigabytes.
    return shrunk(read_cityscapes(folder, part, classes=classes, complete=complete), shrink)


CITYSCAPES = Reproduction(
    name="cityscapes",
    title="Cityscapes, semantic segmentation",
    about=(
        "2,975 training and 500 test images of streets, 128 × 256 pixels, as MTAN publishes them. The main task is to "
        "segment 19 classes; the inverse depth is auxiliary. Losses and metrics are those of NYUv2. The paper has no "
        "experiment on these data. The rows of others are of a later comparison, AuxiNash, whose code for these data, "
        "and so whether it had the same classes, auxiliary tasks and network, is not published: take its order of "
        "methods, not its numbers. Relative errors are large where the inverse depth is near 0. A row of the main loss "
        "alone has a head for depth that was never trained, so that Δ is against a run of each task alone."
    ),
    files=CITYSCAPES_FILES,
    cells=(
        PaperCell(
            name="SegNet",
            metrics=(
                Metric("mIoU"),
                Metric("pixel accuracy"),
                Metric("absolute error", "", "lower", 4),
                Metric("relative error", "", "lower", 4),
            ),
            recipe=CITYSCAPES_RECIPE,
            task=cityscapes_task,
            measure=measure,
            methods=dense_methods("depth"),
            plain=PLAIN,
            ours=OURS,
            literature=(
                Literature(
                    "Shamsian et al., ICML 2023", {name: {"mIoU": Stated(value)} for name, value in _LATER.items()}
                ),
            ),
            same={PLAIN: "STL", "equal": "Equal"},
            single={
                "mIoU": PLAIN,
                "pixel accuracy": PLAIN,
                "absolute error": "depth alone",
                "relative error": "depth alone",
            },
        ),
    ),
)
