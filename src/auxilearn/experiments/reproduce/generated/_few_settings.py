"""What an experiment with few labelled images has to settle besides the methods."""

from dataclasses import dataclass
from typing import Literal, final, get_args

from auxilearn._checks import count, explain, one_of, positive
from auxilearn.errors import InputError
from auxilearn.experiments.reproduce._recipe import share
from auxilearn.experiments.reproduce.generated._task import GeneratedSettings

Architecture = Literal[
    "VGG-16", "ResNet-18", "ResNet-50", "WideResNet-16-4", "four convolutions", "four small convolutions"
]


@final
@dataclass(frozen=True)
class FewSettings(GeneratedSettings):
    """The hyperparameters of an experiment with few labelled images.

    Attributes:
        labelled: At least 1: labelled images of each class; below 1: the share of the training images.
        validation: The share of the training images that chooses the best weights; 0 keeps the last weights.
        size: The side to which photographs are resized.
        side: The side of the crops.
        network: The student's, and with one head the label generator's.
    """

    labelled: float
    validation: float
    size: int
    side: int
    network: Architecture

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("labelled", self.labelled)
        if self.labelled >= 1 and self.labelled != round(self.labelled):
            rule = "`labelled` must be whole images of each class, or a share below 1."
            raise InputError(explain(rule, f"It is {self.labelled!r}.", "E.g. 30.0, or 0.05."))
        share("validation", self.validation, none=True)
        count("side", self.side, 1)
        count("size", self.size, self.side)
        one_of("network", self.network, get_args(Architecture))
