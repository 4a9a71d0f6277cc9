"""The auxiliary losses of the demo: simulated annotators, digit attributes, coin flips and badly scaled regressions."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from auxilearn.data import CLASSES
from auxilearn.experiments.given._labels import attributes


@final
@dataclass(frozen=True)
class Suite:
    """Which auxiliary tasks there are, and how many of each kind.

    Attributes:
        good: Annotators right with probability ``accuracy``, else uniformly wrong; they train the main head.
        random: Annotators that ignore the image; they train the main head.
        adversarial: Annotators that give a wrong class with probability ``accuracy``, each its own: the true class plus
            one, plus two, and so on; they train the main head.
        accuracy: See above.
        attributes: Attributes of the digit, a head each: parity, at least five, has a loop, the seven segments. They
            are functions of the class, so on unlabelled images they carry information about it.
        bits: Coin flips, a head each.
        noise: Regressions on Gaussian targets that ignore the image, a head each, as raw squared errors.
        noise_scale: The standard deviation of those targets.
    """

    good: int = 0
    random: int = 0
    adversarial: int = 0
    accuracy: float = 0.9
    attributes: int = 0
    bits: int = 0
    noise: int = 0
    noise_scale: float = 3.0

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each of the K tasks, in the order of the losses."""
        counts = {
            "good": self.good,
            "random": self.random,
            "adversarial": self.adversarial,
            "attribute": self.attributes,
            "bit": self.bits,
            "noise": self.noise,
        }
        return tuple(kind for kind, count in counts.items() for _ in range(count))

    @property
    def outputs(self) -> int:
        """The width of the network's output: the main head and one output for each task with a head of its own."""
        return CLASSES + self.attributes + self.bits + self.noise


@final
@dataclass(frozen=True)
class Targets:
    """The auxiliary labels of a pool of N images.

    Attributes:
        answers: The annotators' classes, one-hot, shape (N, 10, annotators).
        binary: Attributes and coin flips, shape (N, attributes + bits).
        real: The targets of the regressions, shape (N, noise).
    """

    answers: Tensor
    binary: Tensor
    real: Tensor


def annotate(classes: Tensor, suite: Suite, *, seed: int) -> Targets:
    """Draw every auxiliary label of a pool.

    Args:
        classes: The true classes, shape (N,).
        suite: The tasks.
        seed: The seed of the draw.

    Returns:
        The labels.
    """
    generator = torch.Generator().manual_seed(seed)
    n = len(classes)

    def uniform(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (n,), generator=generator)

    def mostly(answer: Tensor) -> Tensor:
        hit = torch.rand(n, generator=generator) < suite.accuracy
        return torch.where(hit, answer, (answer + uniform(1, CLASSES)) % CLASSES)

    answers = [mostly(classes) for _ in range(suite.good)]
    answers += [uniform(0, CLASSES) for _ in range(suite.random)]
    answers += [mostly((classes + 1 + i) % CLASSES) for i in range(suite.adversarial)]
    one_hot = [torch.nn.functional.one_hot(a, CLASSES).float() for a in answers]
    bits = torch.randint(0, 2, (n, suite.bits), generator=generator).float()
    return Targets(
        torch.stack(one_hot, 2) if one_hot else torch.zeros(n, CLASSES, 0),
        torch.cat([attributes(classes)[:, : suite.attributes], bits], 1),
        suite.noise_scale * torch.randn(n, suite.noise, generator=generator),
    )
