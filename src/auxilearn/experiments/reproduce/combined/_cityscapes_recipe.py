"""The hyperparameters of Cityscapes, on which the paper has no experiment."""

from dataclasses import dataclass
from typing import Literal

from auxilearn._checks import one_of
from auxilearn.experiments.reproduce._recipe import recipe
from auxilearn.experiments.reproduce.combined._dense_task import DenseSettings


@dataclass(frozen=True)
class CityscapesSettings(DenseSettings):
    """What Cityscapes has to settle.

    Attributes:
        classes: Which labels.
    """

    classes: Literal[7, 19]

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("classes", self.classes, (7, 19))


_CAGRAD = "published code of CAGrad (Liu et al. 2021) for these data"
_AUXINASH = "published code of AuxiNash (Shamsian et al. 2023) for NYUv2; none for these data is published"
_AS_NYUV2 = "ours: as on NYUv2"
_ALIKE = "ours: as of the other combiners, for nobody published a convolutional one on these data"

CITYSCAPES_RECIPE = recipe(
    CityscapesSettings,
    # name = (paper budget, smoke budget, source of the former)
    classes=(19, 19, "ours: the stated mIoU is far below what is usual with 7 classes"),
    network=("segnet", "segnet", "ours: as on NYUv2; CAGrad's code has MTAN"),
    widths=((64, 128, 256, 512, 512), (8, 16), _CAGRAD),
    shrink=(1, 8, "MTAN's 128 × 256"),
    validation=(0.1, 0.25, _AS_NYUV2),
    epochs=(200, 12, _CAGRAD),
    batch=(8, 6, _CAGRAD),
    optimizer=("adam", "adam", _CAGRAD),
    lr=(1e-4, 1e-2, _CAGRAD),
    weight_decay=(0.0, 0.0, _CAGRAD),
    schedule=("halved", "halved", _CAGRAD),
    looks=(200, 2, _AS_NYUV2),
    seeds=(3, 1, "AuxiNash (Shamsian et al. 2023)"),
    terms=(3, 3, _AUXINASH),
    alpha=(1e-4, 1e-4, _AUXINASH),
    every=(25, 6, _AUXINASH),
    outer_lr=(5e-3, 5e-3, _AUXINASH),
    outer_decay=(5e-4, 5e-4, _AUXINASH),
    clip=(25.0, 25.0, _AUXINASH),
    conv_outer_lr=(5e-3, 5e-3, _ALIKE),
    conv_outer_decay=(5e-4, 5e-4, _ALIKE),
    conv_clip=(25.0, 25.0, _ALIKE),
    held_out=(0.025, 0.25, _AUXINASH),
    outer_batch=(8, 2, "ours: as large as a training batch, as in the code of AuxiNash"),
)
