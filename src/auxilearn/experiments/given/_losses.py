"""The losses of tasks on images of digits: a main head, annotators of it, and heads of other tasks."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from auxilearn.data import CLASSES

ImageBatch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@final
@dataclass(frozen=True)
class Sources:
    """Auxiliary labels of P pool images; the losses stand in the order of the fields.

    Attributes:
        answers: Classes, given by annotators of the main task; they train the main head. Shape (P, annotators).
        own: Classes with a head of ten outputs each, shape (P, sources).
        binary: Targets between 0 and 1 with a head of one output each, shape (P, binary tasks).
        real: Targets of regressions with a head each, in raw units, shape (P, regressions).
    """

    answers: Tensor
    own: Tensor
    binary: Tensor
    real: Tensor

    @staticmethod
    def of(
        size: int,
        *,
        answers: Tensor | None = None,
        own: Tensor | None = None,
        binary: Tensor | None = None,
        real: Tensor | None = None,
    ) -> "Sources":
        """Fill what is not there with tensors of width 0.

        Args:
            size: P.
            answers: See the attributes.
            own: See the attributes.
            binary: See the attributes.
            real: See the attributes.

        Returns:
            The sources.
        """
        none, no_class = torch.zeros(size, 0), torch.zeros(size, 0, dtype=torch.long)
        return Sources(
            no_class if answers is None else answers,
            no_class if own is None else own,
            none if binary is None else binary,
            none if real is None else real,
        )

    @property
    def number(self) -> int:
        """How many auxiliary losses there are."""
        return sum(t.shape[1] for t in self._fields())

    @property
    def outputs(self) -> int:
        """The width of the network's output."""
        return CLASSES * (1 + self.own.shape[1]) + self.binary.shape[1] + self.real.shape[1]

    def behind(self, rows: int) -> tuple[Tensor, ...]:
        """Put rows without auxiliary labels in front.

        Args:
            rows: How many.

        Returns:
            The fields with ``rows`` rows of zeros before theirs.
        """
        return tuple(torch.cat([t.new_zeros(rows, t.shape[1]), t]) for t in self._fields())

    def _fields(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.answers, self.own, self.binary, self.real


def image_losses(model: nn.Module, batch: ImageBatch) -> tuple[Tensor, Tensor]:
    """Compute the main loss of labelled rows and the auxiliary losses of the others.

    Args:
        model: The network; the first ten outputs are the main head.
        batch: Images, main labels (−1: none), and the fields of :class:`Sources`.

    Returns:
        The losses, shape (B, K), zero where they do not exist, and the mask of those that exist.
    """
    x, y, answers, own, binary, real = batch
    heads = own.shape[1]
    outputs = model(x)  # (B, outputs)
    main, others, bits, numbers = torch.split(
        outputs, [CLASSES, CLASSES * heads, binary.shape[1], real.shape[1]], dim=1
    )
    logp = functional.log_softmax(main, 1)
    # A missing label, −1, asks for class 0 here and is masked below: no label of the pool is in the data.
    losses = [-logp.gather(1, y.clamp(min=0)[:, None]), -logp.gather(1, answers)]
    if heads:
        # Sources stand last: torch computes many short softmaxes side by side ten times as fast as one by one.
        each = functional.log_softmax(others.reshape(-1, CLASSES, heads), 1)
        losses.append(-each.gather(1, own[:, None]).squeeze(1))
    # Binary cross entropy with logits, softplus(z) − z y, written out: it is twice differentiable everywhere.
    losses += [functional.softplus(bits) - bits * binary, (numbers - real).square()]
    together = torch.cat(losses, 1)  # (B, K)
    labelled = (y >= 0)[:, None]
    present = torch.cat([labelled, (~labelled).expand(-1, together.shape[1] - 1)], 1)
    return torch.where(present, together, torch.zeros_like(together)), present


def main_logits(model: nn.Module, batch: ImageBatch) -> tuple[Tensor, Tensor]:
    """Compute the main head's logits.

    Args:
        model: The network.
        batch: As for :func:`image_losses`; labelled rows.

    Returns:
        The logits, shape (B, 10), and the main labels, shape (B,).
    """
    return model(batch[0])[:, :CLASSES], batch[1]
