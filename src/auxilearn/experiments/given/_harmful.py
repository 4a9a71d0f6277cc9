"""Helpful and harmful auxiliary tasks mixed, at three scales of harm."""

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from auxilearn._checks import one_of
from auxilearn.experiments.given._image_task import Dataset, image_task
from auxilearn.experiments.given._labels import annotated, attributes, bits, noise
from auxilearn.experiments.given._losses import Sources
from auxilearn.experiments.harness._experiment import AuxiliaryTask

Harm = Literal["weak", "medium", "strong"]


@final
@dataclass(frozen=True)
class _Scale:
    deviation: float  # of the noise, in raw units: it drowns equal raw weights
    random: int = 0  # annotators; dividing each loss by its initial value does not tame them: they train the main head
    misleading: int = 0


_SCALES = {
    "weak": _Scale(1.0),
    "medium": _Scale(3.0, random=1),
    "strong": _Scale(10.0, misleading=4),
}


@final
@dataclass(frozen=True)
class Harmful:
    r"""Ten attributes that help, among coin flips, badly scaled regressions on noise, and bad annotators.

    ======== ============================ =========================
    ``harm`` deviation :math:`s` of noise annotators of the digit
    ======== ============================ =========================
    weak     1                            none
    medium   3                            one that guesses
    strong   10                           four that mislead
    ======== ============================ =========================

    Attributes:
        dataset: ``"mnist"`` or ``"digits"``.
        harm: ``"weak"``, ``"medium"`` or ``"strong"``.
        bias: Each misleading annotator gives a wrong class of its own (the true one plus one, plus two, and so on)
            with this probability, else another class.
        bits: Coin flips, a head each.
        noise: Regressions on targets from :math:`N(0, s^2)`, a head each, in raw units.
        per_class: Main labels of each class.
        pool: Images with auxiliary labels.

    Raises:
        InputError: If ``harm`` is none of the three.

    Example:
        >>> task = Harmful("digits", "medium")(0)
        >>> sorted(set(task.kinds))
        ['attribute', 'bit', 'main', 'noise', 'random']
    """

    dataset: Dataset
    harm: Harm = "medium"
    bias: float = 0.5
    bits: int = 10
    noise: int = 10
    per_class: int = 5
    pool: int = 1000

    def __post_init__(self) -> None:
        one_of("harm", self.harm, tuple(_SCALES))

    def __call__(self, seed: int) -> AuxiliaryTask:
        """Make the task of a seed.

        Args:
            seed: The seed.

        Returns:
            The task.
        """
        scale = _SCALES[self.harm]
        kinds = ("random",) * scale.random + ("misleading",) * scale.misleading
        kinds += ("attribute",) * 10 + ("bit",) * self.bits + ("noise",) * self.noise
        return image_task(
            self.dataset,
            self._draw,
            kinds=kinds,
            helpful=[kind == "attribute" for kind in kinds],
            per_class=self.per_class,
            pool=self.pool,
            seed=seed,
        )

    def _draw(self, classes: Tensor, generator: torch.Generator) -> Sources:
        scale = _SCALES[self.harm]
        answers = annotated(classes, generator, random=scale.random, wrong=scale.misleading, accuracy=self.bias)
        return Sources.of(
            len(classes),
            answers=answers,
            binary=torch.cat([attributes(classes), bits(classes, self.bits, generator)], 1),
            real=noise(classes, self.noise, scale.deviation, generator),
        )
