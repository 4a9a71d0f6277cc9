"""Auxiliary tasks of which none helps."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from auxilearn.experiments.given._image_task import Dataset, image_task
from auxilearn.experiments.given._labels import annotated, bits, noise
from auxilearn.experiments.given._losses import Sources
from auxilearn.experiments.harness._experiment import AuxiliaryTask


@final
@dataclass(frozen=True)
class Useless:
    """Random annotators of the main head, coin flips, and regressions on noise: the right answer is to use none.

    Attributes:
        dataset: ``"mnist"`` or ``"digits"``.
        random: Annotators that ignore the image.
        bits: Coin flips, a head each.
        noise: Regressions on Gaussian noise, a head each.
        deviation: The standard deviation of that noise.
        per_class: Main labels of each class.
        pool: Images with auxiliary labels.

    Example:
        >>> Useless("digits")(0).helpful.sum()
        tensor(1)
    """

    dataset: Dataset
    random: int = 8
    bits: int = 8
    noise: int = 8
    deviation: float = 3.0
    per_class: int = 5
    pool: int = 1000

    def __call__(self, seed: int) -> AuxiliaryTask:
        """Make the task of a seed.

        Args:
            seed: The seed.

        Returns:
            The task.
        """
        kinds = ("random",) * self.random + ("bit",) * self.bits + ("noise",) * self.noise
        return image_task(
            self.dataset,
            self._draw,
            kinds=kinds,
            helpful=[False] * len(kinds),
            per_class=self.per_class,
            pool=self.pool,
            seed=seed,
        )

    def _draw(self, classes: Tensor, generator: torch.Generator) -> Sources:
        return Sources.of(
            len(classes),
            answers=annotated(classes, generator, random=self.random),
            binary=bits(classes, self.bits, generator),
            real=noise(classes, self.noise, self.deviation, generator),
        )
