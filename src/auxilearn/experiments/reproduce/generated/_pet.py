"""Oxford-IIIT Pet with 30 labels a class."""

from pathlib import Path
from typing import Literal, cast

from auxilearn.data.published import PET_FILES, ClassifiedImages, read_pet
from auxilearn.experiments.reproduce._reproduction import Reproduction
from auxilearn.experiments.reproduce.generated._few import METHODS_ABOUT, few_cell, photographs
from auxilearn.experiments.reproduce.generated._pet_recipe import PET_RECIPE


def _read(folder: Path, part: str, size: int) -> ClassifiedImages:
    return read_pet(folder, cast("Literal['train', 'test']", part), size=size)


PET = Reproduction(
    name="pet",
    title="Oxford-IIIT Pet",
    about=(
        "Photographs of 37 breeds of cats and dogs; 30 training images of each have a label, 30 % of the training "
        "images choose the best weights. Network and training are those of the original code, from scratch, but for "
        "the 1000 outputs between features and heads, which add nothing to a linear map. The original code draws one "
        f"split for all seeds, and labels in proportion to the classes; ours draws one a seed. {METHODS_ABOUT}"
    ),
    files=PET_FILES,
    cells=(few_cell("30-shot", PET_RECIPE, _read, photographs, "Pet"),),
)
"""The reproduction."""
