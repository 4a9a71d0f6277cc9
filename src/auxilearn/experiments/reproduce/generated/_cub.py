"""CUB-200-2011 with 30 labels a class and learned labels: a setting beside those with attributes."""

from pathlib import Path
from typing import Literal, cast

from auxilearn.data.published import ClassifiedImages, read_cub
from auxilearn.experiments.reproduce.generated._cub_recipe import CUB_RECIPE
from auxilearn.experiments.reproduce.generated._few import METHODS_ABOUT, few_cell, photographs


def _read(folder: Path, part: str, size: int) -> ClassifiedImages:
    return read_cub(folder, cast("Literal['train', 'test']", part), size=size)


LEARNED_LABELS = few_cell("learned labels, 30-shot", CUB_RECIPE, _read, photographs, "CUB")
"""The setting."""

LEARNED_LABELS_ABOUT = (
    "With learned labels: 30 training images of each species have a label, which are all there are, so that no pool is "
    "left; self-training and ours are main only there. The paper's training is published for the pets alone, and is "
    f"taken from there. {METHODS_ABOUT}"
)
"""What differs from the paper."""
