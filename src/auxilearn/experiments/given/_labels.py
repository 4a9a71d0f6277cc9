"""Simulated labels: annotators of every quality, attributes of the digit, coin flips, noise."""

import torch
from torch import Tensor

from auxilearn.data import CLASSES

# The seven-segment code of the digits 0-9, segments a-g.
_SEGMENTS = (
    "1111110", "0110000", "1101101", "1111001", "0110011", "1011011", "1011111", "1110000", "1111111", "1111011",
)  # fmt: skip


# 0 and 6, 1 and 7, 2 and 3, 4 and 9, 5 and 8.
_LOOK_ALIKES = (6, 7, 3, 2, 9, 8, 0, 1, 5, 4)


def look_alikes(classes: Tensor) -> Tensor:
    """Return the digit that looks most like each.

    Args:
        classes: Any shape.

    Returns:
        The same shape; applied twice, the classes again.
    """
    return torch.tensor(_LOOK_ALIKES)[classes]


def guesses(classes: Tensor, generator: torch.Generator) -> Tensor:
    """Draw classes that ignore the image.

    Args:
        classes: The true classes; only their shape is read.
        generator: The source of randomness.

    Returns:
        Uniform classes of that shape.
    """
    return torch.randint(0, CLASSES, classes.shape, generator=generator)


def mostly(answers: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Keep a share of the answers, and replace the others by another class.

    Args:
        answers: Classes, shape (N,).
        share: The probability that an answer is kept.
        generator: The source of randomness.

    Returns:
        Shape (N,).
    """
    kept = torch.rand(answers.shape, generator=generator) < share
    other = torch.randint(1, CLASSES, answers.shape, generator=generator)
    return torch.where(kept, answers, (answers + other) % CLASSES)


def annotated(
    classes: Tensor,
    generator: torch.Generator,
    *,
    good: int = 0,
    random: int = 0,
    wrong: int = 0,
    accuracy: float = 0.9,
) -> Tensor:
    """Draw the answers of annotators of every quality.

    Args:
        classes: The true classes, (N,).
        generator: Draws them.
        good: How many answer rightly with probability ``accuracy``, else uniformly wrong.
        random: How many ignore the image.
        wrong: How many answer wrongly with probability ``accuracy``, each in a way of its own: the true class plus one,
            plus two, and so on.
        accuracy: See above.

    Returns:
        Classes, a column for each annotator, (N, good + random + wrong).
    """
    columns = [mostly(classes, accuracy, generator) for _ in range(good)]
    columns += [guesses(classes, generator) for _ in range(random)]
    columns += [mostly((classes + 1 + i) % CLASSES, accuracy, generator) for i in range(wrong)]
    return torch.stack(columns, 1) if columns else classes.new_zeros(len(classes), 0)


def attributes(classes: Tensor) -> Tensor:
    """Return ten attributes of each digit: parity, at least five, has a loop, the seven segments of a display.

    They are functions of the class, so on unlabelled images they carry information about it.

    Args:
        classes: Shape (N,).

    Returns:
        Shape (N, 10), zeros and ones.
    """
    digit = torch.arange(CLASSES)
    loops = torch.isin(digit, torch.tensor([0, 6, 8, 9]))
    segments = torch.tensor([[int(bit) for bit in code] for code in _SEGMENTS])
    table = torch.cat([torch.stack([digit % 2, digit >= 5, loops], 1), segments], 1).float()
    return table[classes]


def bits(classes: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Flip coins.

    Args:
        classes: The true classes, shape (N,); only their number is read.
        number: How many coins an image.
        generator: The source of randomness.

    Returns:
        Shape (N, number), zeros and ones.
    """
    return torch.randint(0, 2, (len(classes), number), generator=generator).float()


def noise(classes: Tensor, number: int, deviation: float, generator: torch.Generator) -> Tensor:
    r"""Draw targets from :math:`N(0, \text{deviation}^2)`.

    Args:
        classes: The true classes, shape (N,); only their number is read.
        number: How many targets an image.
        deviation: Their standard deviation.
        generator: The source of randomness.

    Returns:
        Shape (N, number).
    """
    return deviation * torch.randn(len(classes), number, generator=generator)
