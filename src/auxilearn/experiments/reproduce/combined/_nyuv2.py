"""NYUv2: segment rooms, with depth and surface normals as auxiliary tasks."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from auxilearn.data.published import NYUV2_FILES, DenseImages, read_nyuv2
from auxilearn.experiments.reproduce._reproduction import Literature, Metric, PaperCell, Reproduction, Setup, Stated
from auxilearn.experiments.reproduce.combined._dense import shrunk
from auxilearn.experiments.reproduce.combined._dense_task import dense_task, measure
from auxilearn.experiments.reproduce.combined._methods import OURS, PLAIN, dense_methods
from auxilearn.experiments.reproduce.combined._nyuv2_recipe import NYUV2_RECIPE
from auxilearn.experiments.reproduce.combined._task import CombinedTask

_OF_CODE, _ACCURACY_OF_CODE = "mIoU, original", "pixel accuracy, original"
_PAPER: dict[str, tuple[float, float, float, float]] = {
    "STL": (18.90, 0.21, 54.74, 0.94),
    "Equal": (19.20, 0.19, 55.37, 1.00),
    "Uncertainty": (19.34, 0.18, 55.70, 0.79),
    "DWA": (19.38, 0.14, 55.37, 0.35),
    "GradNorm": (19.52, 0.21, 56.70, 0.33),
    "MGDA": (19.53, 0.35, 56.28, 0.46),
    "GCS": (19.94, 0.13, 56.58, 0.81),
    "AuxiLearn, linear": (20.04, 0.38, 56.80, 0.14),
    "AuxiLearn, deep linear": (19.94, 0.12, 56.45, 0.79),
    "AuxiLearn, nonlinear": (20.09, 0.34, 56.80, 0.53),
    "AuxiLearn, ConvNet": (20.54, 0.30, 56.69, 0.44),
}
_LATER = {"STL": 38.30, "Equal": 38.43, "AuxiLearn": 38.63, "AuxiNash": 40.79}


def nyuv2_task(setup: Setup) -> CombinedTask:
    """Read NYUv2, and make the task.

    Args:
        setup: The set-up. The paper's budget wants all published images.

    Returns:
        The task.
    """
    settings, complete = setup.of(NYUV2_RECIPE), setup.budget == "paper"
    train, test = (_read(setup.data, part, settings.shrink, complete) for part in ("train", "test"))
    return dense_task(setup, settings, train, test, name="nyuv2")


@lru_cache(maxsize=2)
def _read(folder: Path, part: Literal["train", "test"], shrink: int, complete: bool) -> DenseImages:
    # Once a process, for all methods and seeds: there are gigabytes.
    return shrunk(read_nyuv2(folder, part, complete=complete), shrink)


NYUV2 = Reproduction(
    name="nyuv2",
    title="NYUv2, semantic segmentation",
    about=(
        "795 training and 654 test images of rooms, 288 × 384 pixels, as MTAN publishes them. The main task is to "
        "segment 13 classes; depth and surface normals are auxiliary. Every method trains on the same losses, each a "
        "mean over pixels with a truth: cross entropy, absolute error, one minus cosine. The original averaged its "
        "segmentation loss over unlabelled pixels, too, in its own method only. mIoU is of the whole test set, as in "
        "later work. The paper's columns stand beside `mIoU, original` and `pixel accuracy, original`: means over "
        "images, and a union with the unlabelled pixels, as its code computes them, which is much lower. The later "
        "run, AuxiNash, trains on batches of 2 with random crops, chooses no epoch by validation images, and averages "
        "the last ten. Δ is against a run of each task alone: the row of the main loss alone has heads for depth and "
        "normals that were never trained."
    ),
    files=NYUV2_FILES,
    cells=(
        PaperCell(
            name="SegNet",
            metrics=(
                Metric("mIoU"),
                Metric("pixel accuracy"),
                Metric(_OF_CODE),
                Metric(_ACCURACY_OF_CODE),
                Metric("absolute error", "m", "lower", 4),
                Metric("relative error", "", "lower", 4),
                Metric("mean angle", "°", "lower"),
                Metric("median angle", "°", "lower"),
                Metric("within 11.25°"),
                Metric("within 22.5°"),
                Metric("within 30°"),
            ),
            recipe=NYUV2_RECIPE,
            task=nyuv2_task,
            measure=measure,
            methods=dense_methods("depth", "normals"),
            plain=PLAIN,
            ours=OURS,
            literature=(
                Literature(
                    "Navon et al., ICLR 2021",
                    {
                        name: {_OF_CODE: Stated(a, b), _ACCURACY_OF_CODE: Stated(c, d)}
                        for name, (a, b, c, d) in _PAPER.items()
                    },
                ),
                Literature(
                    "Shamsian et al., ICML 2023", {name: {"mIoU": Stated(value)} for name, value in _LATER.items()}
                ),
            ),
            same={PLAIN: "STL", "equal": "Equal", "uncertainty": "Uncertainty"},
            single={
                "mIoU": PLAIN,
                "pixel accuracy": PLAIN,
                "absolute error": "depth alone",
                "relative error": "depth alone",
                "mean angle": "normals alone",
                "median angle": "normals alone",
                "within 11.25°": "normals alone",
                "within 22.5°": "normals alone",
                "within 30°": "normals alone",
            },
        ),
    ),
)
