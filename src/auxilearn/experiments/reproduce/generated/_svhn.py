"""SVHN with 5 % of the labels."""

from pathlib import Path
from typing import Literal, cast

from auxilearn.data.published import SVHN_FILES, ClassifiedImages, read_svhn
from auxilearn.experiments.reproduce._augment import Colours, CropFlip
from auxilearn.experiments.reproduce._reproduction import Reproduction
from auxilearn.experiments.reproduce.generated._few import METHODS_ABOUT, few_cell
from auxilearn.experiments.reproduce.generated._few_settings import FewSettings
from auxilearn.experiments.reproduce.generated._svhn_recipe import SVHN_RECIPE

_MAXLS = Colours((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def _read(folder: Path, part: str, size: int) -> ClassifiedImages:
    return read_svhn(folder, cast("Literal['train', 'test']", part))


def _crops(settings: FewSettings) -> CropFlip:
    return CropFlip(settings.side, pad=4, flip=False, colours=_MAXLS)  # a mirrored digit is none


SVHN = Reproduction(
    name="svhn",
    title="SVHN",
    about=(
        "Digits of house numbers, 32 × 32; 5 % of the 73,257 training images, 3,663, have a label. The paper's "
        "network and training are not published: ours are four convolutions and the training of MAXL's code for "
        "CIFAR-100, with momentum, weight decay and a cosine schedule, so that levels differ from the paper's. "
        f"{METHODS_ABOUT}"
    ),
    files=SVHN_FILES,
    cells=(few_cell("5 % of the labels", SVHN_RECIPE, _read, _crops, "SVHN"),),
)
"""The reproduction."""
