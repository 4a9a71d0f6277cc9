"""The hyperparameters of CUB-200-2011 with attributes."""

from dataclasses import dataclass
from typing import Literal

from auxilearn._checks import count, one_of
from auxilearn.experiments.reproduce._recipe import Recipe, recipe, share
from auxilearn.experiments.reproduce.combined._task import CombinedSettings

PET = "original code for Oxford Pet, by the same authors: that for CUB was not published"


@dataclass(frozen=True)
class CubSettings(CombinedSettings):
    """What the attributes add.

    Attributes:
        shots: Labelled images of each species, those held out among them.
        validation: The share of the training images that only chooses the best weights.
        images: At most so many images of each species are read, of each part.
        size: The side to which images are resized, in pixels.
        crop: The side of what a network sees.
        attributes: How many of the attributes are auxiliary tasks, the first ones.
        network: The body.
        measured: Test images a forward pass.
    """

    shots: int
    validation: float
    images: int
    size: int
    crop: int
    attributes: int
    network: Literal["ResNet-18", "four convolutions"]
    measured: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("shots", "images", "size", "crop", "attributes", "measured"):
            count(name, getattr(self, name), 1)
        one_of("network", self.network, ("ResNet-18", "four convolutions"))
        share("validation", self.validation)


def recipe_of(shots: int, few: int, held_out: float) -> Recipe[CubSettings]:
    """Write the hyperparameters down.

    Args:
        shots: Labelled images of each species.
        few: As many in the smoke run.
        held_out: The share of them that the published method holds back.

    Returns:
        The recipe.
    """
    return recipe(
        CubSettings,
        shots=(shots, few, "paper"),
        attributes=(312, 6, "paper"),
        network=(
            "ResNet-18",
            "four convolutions",
            "ours: what the original code has for Oxford Pet; the small one takes no --pretrained",
        ),
        size=(256, 20, PET),
        crop=(224, 16, PET),
        images=(60, 5, "ours: all there are"),
        validation=(0.1, 0.2, "ours: about three images of each species; the paper does not say"),
        epochs=(150, 2, PET),
        batch=(16, 32, PET + "; as many images without a label are beside them"),
        optimizer=("sgd", "sgd", PET),
        lr=(1e-3, 5e-2, PET),
        weight_decay=(5e-3, 5e-3, PET),
        schedule=("cosine", "cosine", PET),
        looks=(150, 2, PET),
        seeds=(3, 1, "ours: the paper states errors, but not of how many runs"),
        terms=(3, 3, PET),
        alpha=(1e-3, 1e-3, PET),
        every=(30, 5, PET),
        outer_lr=(1e-3, 1e-3, PET),
        outer_decay=(5e-3, 5e-3, PET),
        clip=(50.0, 50.0, PET),
        held_out=(held_out, held_out, "paper: 20 images are best for 5 shots; the same for 10 is ours"),
        outer_batch=(16, 16, PET),
        measured=(128, 200, PET),
    )


FIVE, TEN = recipe_of(5, 2, 0.02), recipe_of(10, 3, 0.01)
