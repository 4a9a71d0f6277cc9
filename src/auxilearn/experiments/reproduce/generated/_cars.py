"""Stanford Cars with 30 labels a class."""

from pathlib import Path
from typing import Literal, cast

from auxilearn.data.published import CARS_FILES, ClassifiedImages, read_cars
from auxilearn.experiments.reproduce._reproduction import Reproduction
from auxilearn.experiments.reproduce.generated._cars_recipe import CARS_RECIPE
from auxilearn.experiments.reproduce.generated._few import METHODS_ABOUT, few_cell, photographs


def _read(folder: Path, part: str, size: int) -> ClassifiedImages:
    return read_cars(folder, cast("Literal['train', 'test']", part), size=size)


CARS = Reproduction(
    name="cars",
    title="Stanford Cars",
    about=(
        "Photographs of 196 models of cars; 30 training images of each have a label, or all where there are fewer. "
        "Images are not cut to the cars' boxes. The paper's training is published for the pets alone, and is taken "
        f"from there. {METHODS_ABOUT}"
    ),
    files=CARS_FILES,
    cells=(few_cell("30-shot", CARS_RECIPE, _read, photographs, "Cars"),),
)
"""The reproduction."""
