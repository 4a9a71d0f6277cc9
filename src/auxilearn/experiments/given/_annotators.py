"""Good, random and adversarial annotators of the main task."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from auxilearn.experiments.given._image_task import Dataset, image_task
from auxilearn.experiments.given._labels import annotated
from auxilearn.experiments.given._losses import Sources
from auxilearn.experiments.harness._experiment import AuxiliaryTask


@final
@dataclass(frozen=True)
class Annotators:
    """Annotators label the pool for the main head; nobody says who is good.

    Images are real, annotators are simulated.

    Attributes:
        dataset: ``"mnist"`` or ``"digits"``.
        good: Annotators right with probability ``accuracy``, else uniformly wrong.
        random: Annotators that ignore the image.
        adversarial: Annotators that give a wrong class with probability ``accuracy``, each its own: the true class plus
            one, plus two, and so on.
        accuracy: See above.
        per_class: Main labels of each class.
        pool: Images that the annotators label.

    Example:
        >>> task = Annotators("digits")(0)
        >>> task.kinds[:5]
        ('main', 'good', 'good', 'good', 'random')
    """

    dataset: Dataset
    good: int = 3
    random: int = 8
    adversarial: int = 3
    accuracy: float = 0.9
    per_class: int = 5
    pool: int = 1000

    def __call__(self, seed: int) -> AuxiliaryTask:
        """Make the task of a seed.

        Args:
            seed: The seed.

        Returns:
            The task.
        """
        kinds = ("good",) * self.good + ("random",) * self.random + ("adversarial",) * self.adversarial
        return image_task(
            self.dataset,
            self._draw,
            kinds=kinds,
            helpful=[kind == "good" for kind in kinds],
            per_class=self.per_class,
            pool=self.pool,
            seed=seed,
        )

    def _draw(self, classes: Tensor, generator: torch.Generator) -> Sources:
        answers = annotated(
            classes, generator, good=self.good, random=self.random, wrong=self.adversarial, accuracy=self.accuracy
        )
        return Sources.of(len(classes), answers=answers)
