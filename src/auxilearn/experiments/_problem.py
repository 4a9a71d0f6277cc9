"""What a method sees: the images and labels of several seeds, stacked, and their losses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn.data import CLASSES, Images, few_labels
from auxilearn.experiments._tasks import Suite, annotate
from auxilearn.models import StackedConvNet


@final
@dataclass(frozen=True)
class Problem:
    """One problem for each of S seeds, with N main labels, a pool of P images, and T test images.

    Attributes:
        seeds: The seeds.
        suite: The auxiliary tasks.
        main_x: Shape (N, S, 14, 14).
        main_y: Shape (S, N).
        pool_x: Shape (S, P, 14, 14).
        answers: Shape (S, P, 10, annotators).
        binary: Shape (S, P, binary tasks).
        real: Shape (S, P, regressions).
        test_x: Shape (T, S, 14, 14).
        test_y: Shape (S, T); read by :func:`accuracy` only.
    """

    seeds: tuple[int, ...]
    suite: Suite
    main_x: Tensor
    main_y: Tensor
    pool_x: Tensor
    answers: Tensor
    binary: Tensor
    real: Tensor
    test_x: Tensor
    test_y: Tensor

    def main_losses(self, outputs: Tensor) -> Tensor:
        """Return the cross entropy of every main label.

        Args:
            outputs: Outputs on ``main_x``, shape (S, G, N, outputs).

        Returns:
            Shape (S, G, N).
        """
        return cross_entropy(outputs[..., :CLASSES], self.main_y)

    def auxiliary_losses(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Return the mean of each auxiliary loss over a batch of the pool.

        Args:
            outputs: Outputs on the batch, shape (S, G, B, outputs).
            rows: The rows of the pool in the batch, shape (S, B).

        Returns:
            Shape (S, G, K).
        """
        s, g, b, _ = outputs.shape
        seed = torch.arange(s)[:, None]
        widths = [CLASSES, self.binary.shape[-1], self.real.shape[-1]]
        logits, binary, real = torch.split(outputs, widths, -1)
        logp = functional.log_softmax(logits, -1).reshape(s, g, -1)
        annotators = -torch.bmm(logp, self.answers[seed, rows].reshape(s, b * CLASSES, -1)) / b
        # Binary cross entropy with logits, softplus(z) − z y, written out because the targets are shared by the models.
        bits = (functional.softplus(binary) - binary * self.binary[seed, rows][:, None]).mean(2)
        regressions = (real - self.real[seed, rows][:, None]).square().mean(2)
        return torch.cat([annotators, bits, regressions], -1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross entropy of every sample under every model.

    Args:
        logits: Shape (S, G, N, classes).
        labels: Shape (S, N).

    Returns:
        Shape (S, G, N).
    """
    index = labels[:, None, :, None].expand(-1, logits.shape[1], -1, 1)
    return -functional.log_softmax(logits, -1).gather(-1, index).squeeze(-1)


def stacked(images: Images, suite: Suite, seeds: Sequence[int], *, per_class: int, pool: int) -> Problem:
    """Draw the problem of each seed and stack them.

    Args:
        images: The data.
        suite: The auxiliary tasks.
        seeds: One problem for each.
        per_class: Main labels of each class.
        pool: The size of the pool.

    Returns:
        The problems.
    """
    parts = [few_labels(images.classes, seed=seed, per_class=per_class, pool=pool) for seed in seeds]
    drawn = [annotate(images.classes[p.pool], suite, seed=seed) for p, seed in zip(parts, seeds, strict=True)]
    main, test = torch.stack([p.main for p in parts]), torch.stack([p.test for p in parts])
    return Problem(
        tuple(seeds),
        suite,
        main_x=images.pixels[main.T],
        main_y=images.classes[main],
        pool_x=images.pixels[torch.stack([p.pool for p in parts])],
        answers=torch.stack([t.answers for t in drawn]),
        binary=torch.stack([t.binary for t in drawn]),
        real=torch.stack([t.real for t in drawn]),
        test_x=images.pixels[test.T],
        test_y=images.classes[test],
    )


@torch.no_grad()
def accuracy(net: StackedConvNet, problem: Problem, *, chunk: int = 500) -> Tensor:
    """Return the test accuracy of every model.

    Args:
        net: The networks.
        problem: The problem.
        chunk: Images a pass.

    Returns:
        In percent, shape (S, G).
    """
    guess = torch.cat([net(x)[..., :CLASSES].argmax(-1) for x in torch.split(problem.test_x, chunk)], -1)
    return 100 * (guess == problem.test_y[:, None]).float().mean(-1)
