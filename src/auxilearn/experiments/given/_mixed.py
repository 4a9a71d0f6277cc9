"""Annotators of the main task, good and bad, attributes that help, and regressions on noise: some of everything."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from auxilearn.experiments.given._image_task import Dataset, image_task
from auxilearn.experiments.given._labels import annotated, attributes, noise
from auxilearn.experiments.given._losses import Sources
from auxilearn.experiments.harness._experiment import AuxiliaryTask


@final
@dataclass(frozen=True)
class Mixed:
    r"""Useful, useless and harmful auxiliary losses, at the main head and at heads of their own.

    Images are real, annotators are simulated.

    Attributes:
        dataset: ``"mnist"`` or ``"digits"``.
        good: Annotators of the main head, right with probability ``accuracy``, else uniformly wrong.
        random: Annotators of the main head that ignore the image.
        adversarial: Annotators of the main head that give a wrong class with probability ``accuracy``, each its own:
            the true class plus one, plus two, and so on.
        accuracy: See above.
        attributes: Attributes of the digit, a head each: the first of parity, at least five, has a loop, and the seven
            segments of a display.
        noise: Regressions on targets from :math:`N(0, s^2)`, a head each, in raw units.
        deviation: The standard deviation :math:`s`.
        per_class: Main labels of each class.
        pool: Images with auxiliary labels.

    Example:
        >>> task = Mixed("digits")(0)
        >>> len(task.kinds), sorted(set(task.kinds))
        (25, ['adversarial', 'attribute', 'good', 'main', 'noise', 'random'])
    """

    dataset: Dataset
    good: int = 3
    random: int = 6
    adversarial: int = 3
    accuracy: float = 0.9
    attributes: int = 6
    noise: int = 6
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
        kinds = ("good",) * self.good + ("random",) * self.random + ("adversarial",) * self.adversarial
        kinds += ("attribute",) * self.attributes + ("noise",) * self.noise
        return image_task(
            self.dataset,
            self._draw,
            kinds=kinds,
            helpful=[kind in ("good", "attribute") for kind in kinds],
            per_class=self.per_class,
            pool=self.pool,
            seed=seed,
        )

    def _draw(self, classes: Tensor, generator: torch.Generator) -> Sources:
        answers = annotated(
            classes, generator, good=self.good, random=self.random, wrong=self.adversarial, accuracy=self.accuracy
        )
        return Sources.of(
            len(classes),
            answers=answers,
            binary=attributes(classes)[:, : self.attributes],
            real=noise(classes, self.noise, self.deviation, generator),
        )
