"""CIFAR-10 and CIFAR-100 with 5 % of the labels."""

from pathlib import Path
from typing import Literal, cast

from auxilearn.data.published import CIFAR10_FILES, CIFAR100_FILES, ClassifiedImages, read_cifar10, read_cifar100
from auxilearn.experiments.reproduce._augment import CIFAR, CropFlip
from auxilearn.experiments.reproduce._reproduction import Reproduction
from auxilearn.experiments.reproduce.generated._cifar10_recipe import CIFAR10_RECIPE
from auxilearn.experiments.reproduce.generated._cifar100_recipe import CIFAR100_RECIPE
from auxilearn.experiments.reproduce.generated._few import METHODS_ABOUT, few_cell
from auxilearn.experiments.reproduce.generated._few_settings import FewSettings


def _read10(folder: Path, part: str, size: int) -> ClassifiedImages:
    return read_cifar10(folder, cast("Literal['train', 'test']", part))


def _read100(folder: Path, part: str, size: int) -> ClassifiedImages:
    return read_cifar100(folder, cast("Literal['train', 'test']", part))


def _crops(settings: FewSettings) -> CropFlip:
    return CropFlip(settings.side, pad=4, colours=CIFAR)


CIFAR10 = Reproduction(
    name="cifar10",
    title="CIFAR-10",
    about=(
        "Photographs of ten classes, 32 × 32; 2,500 of the 50,000 training images have a label. The paper's network "
        "and training are not published: ours are those of MAXL's code for CIFAR-100, with momentum, weight decay "
        f"and a cosine schedule, so that levels differ from the paper's. {METHODS_ABOUT}"
    ),
    files=CIFAR10_FILES,
    cells=(few_cell("5 % of the labels", CIFAR10_RECIPE, _read10, _crops, "CIFAR-10"),),
)
"""The reproduction of CIFAR-10."""

CIFAR100 = Reproduction(
    name="cifar100",
    title="CIFAR-100",
    about=(
        "Photographs of a hundred classes, 32 × 32; 2,500 of the 50,000 training images have a label. The paper's "
        "network and training are not published: ours are those of MAXL's code, which takes the twenty coarse "
        "classes, with momentum, weight decay and a cosine schedule, so that levels differ from the paper's. "
        f"{METHODS_ABOUT}"
    ),
    files=CIFAR100_FILES,
    cells=(few_cell("5 % of the labels", CIFAR100_RECIPE, _read100, _crops, "CIFAR-100"),),
)
"""The reproduction of CIFAR-100."""
