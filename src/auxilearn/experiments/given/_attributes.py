"""Few main labels and many attributes."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from auxilearn.experiments.given._image_task import Dataset, image_task
from auxilearn.experiments.given._labels import attributes
from auxilearn.experiments.given._losses import Sources
from auxilearn.experiments.harness._experiment import AuxiliaryTask


@final
@dataclass(frozen=True)
class Attributes:
    """Ten attributes of the digit are known for every image of the pool, the digit itself for a few others.

    A stand-in for birds with 312 attributes. Attributes are functions of the class, so they carry information about the
    labels of images whose main label is not used; the birds' do, too.

    Attributes:
        dataset: ``"mnist"`` or ``"digits"``.
        per_class: Main labels of each class.
        pool: Images with attributes.

    Example:
        >>> Attributes("digits", per_class=2)(0).kinds[:3]
        ('main', 'attribute', 'attribute')

    References:
        Navon et al., ICLR 2021, the experiment on CUB-200-2011.
    """

    dataset: Dataset
    per_class: int = 5
    pool: int = 1000

    def __call__(self, seed: int) -> AuxiliaryTask:
        """Make the task of a seed.

        Args:
            seed: The seed.

        Returns:
            The task.
        """
        return image_task(
            self.dataset,
            _draw,
            kinds=("attribute",) * 10,
            helpful=[True] * 10,
            per_class=self.per_class,
            pool=self.pool,
            seed=seed,
        )


def _draw(classes: Tensor, generator: torch.Generator) -> Sources:
    del generator  # attributes are certain
    return Sources.of(len(classes), binary=attributes(classes))
