"""Many label sources, each noisier than the one before."""

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from auxilearn._checks import at_least, count, one_of
from auxilearn.experiments.given._image_task import Dataset, image_task
from auxilearn.experiments.given._labels import guesses, look_alikes
from auxilearn.experiments.given._losses import Sources
from auxilearn.experiments.harness._experiment import AuxiliaryTask


@final
@dataclass(frozen=True)
class LabelNoise:
    r"""A hundred sources of class labels, of which each replaces more than the one before.

    .. math:: \text{share replaced by source } k = \min\Bigl(1, \frac{k}{M - 1}\Bigr), \qquad k = 0, \dots, K - 1

    With ``heads="main"`` every source labels the pool for the main head, and a replaced label is the digit that looks
    alike (0 and 6, 1 and 7, 2 and 3, 4 and 9, 5 and 8): sources make the same mistakes, so the noisier half is wrong
    more often than right, and averaging does not help. With ``heads="own"`` every source has a head of its own, and a
    replaced label is a uniform guess: there a consistent mistake would be as good as the truth.

    Averages over many heads are robust, so there only the first :math:`M = 20` of the hundred are more than noise.

    An oracle uses the sources that replace less than half: on the main head, those that are more often right than
    wrong.

    Attributes:
        dataset: ``"mnist"`` or ``"digits"``.
        heads: ``"main"`` or ``"own"``.
        sources: K, at least 2.
        informative: M, from 2 to K; None for all on the main head and a fifth with heads of their own.
        per_class: Main labels of each class.
        pool: Images that the sources label.

    Raises:
        InputError: If ``heads`` is neither, or the numbers are out of range.

    Example:
        >>> LabelNoise("digits", sources=4)(0).helpful
        tensor([ True,  True,  True, False, False])

    References:
        Navon et al., ICLR 2021: 100 auxiliary tasks whose label noise grows, and whose learned weights fall with it.
    """

    dataset: Dataset
    heads: Literal["main", "own"] = "main"
    sources: int = 100
    informative: int | None = None
    per_class: int = 5
    pool: int = 1000

    def __post_init__(self) -> None:
        one_of("heads", self.heads, ("main", "own"))
        count("sources", self.sources, 2)
        if self.informative is not None:
            count("informative", self.informative, 2)
            at_least("sources", self.sources, self.informative)

    def replaced(self) -> Tensor:
        """Return the share of labels that each source replaces.

        Returns:
            From 0 to 1, shape (K,).
        """
        default = self.sources if self.heads == "main" else max(2, self.sources // 5)
        informative = default if self.informative is None else self.informative
        return (torch.arange(self.sources) / (informative - 1)).clamp(max=1)

    def __call__(self, seed: int) -> AuxiliaryTask:
        """Make the task of a seed.

        Args:
            seed: The seed.

        Returns:
            The task.
        """
        return image_task(
            self.dataset,
            self._draw,
            kinds=("source",) * self.sources,
            helpful=[bool(share < 0.5) for share in self.replaced()],
            per_class=self.per_class,
            pool=self.pool,
            seed=seed,
        )

    def _draw(self, classes: Tensor, generator: torch.Generator) -> Sources:
        every = classes[:, None].expand(-1, self.sources)
        replaced = torch.rand(every.shape, generator=generator) < self.replaced()
        if self.heads == "main":
            return Sources.of(len(classes), answers=torch.where(replaced, look_alikes(every), every))
        return Sources.of(len(classes), own=torch.where(replaced, guesses(every, generator), every))
