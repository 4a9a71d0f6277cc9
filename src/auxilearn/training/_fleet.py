"""What a fleet is: one or several copies of a model, trained on the same batches under different losses."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from auxilearn.training._problem import Batch, Measured
from auxilearn.training._stateful import Stateful


class Fleet(Stateful, ABC):
    """M models of one architecture that start alike and see the same batches.

    Subclasses hold the weights and compute the losses of all models at once, or one after another.

    Attributes:
        params: The trainable weights of all models.
        size: M.
        device: Where the weights lie.
    """

    params: tuple[nn.Parameter, ...]
    size: int
    device: torch.device

    @abstractmethod
    def measure(self, batch: Batch, labelled: Tensor | None) -> Measured:
        """Compute the losses of every model.

        Args:
            batch: The batch, on the models' device.
            labelled: Which of its rows carry a main label, shape (B,); None: all.

        Returns:
            Losses of shape (M, B, K).
        """

    @abstractmethod
    def logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the main head's logits of every model, in evaluation mode and without a graph.

        Args:
            batch: The batch.

        Returns:
            Logits of shape (M, B, C) and labels of shape (B,).
        """

    @abstractmethod
    def module(self, index: int) -> nn.Module:
        """Return one of the models.

        Args:
            index: Its number.

        Returns:
            The model with its present weights.
        """

    @abstractmethod
    def train(self, mode: bool = True) -> None:
        """Switch all models to training or evaluation mode.

        Args:
            mode: Whether to train.
        """

    @abstractmethod
    def clip(self, norm: float) -> None:
        """Clip the gradient of each model by itself.

        Args:
            norm: The largest norm.
        """

    @abstractmethod
    def second_order(self) -> AbstractContextManager[None]:
        """Return the context for passes that are differentiated twice and leave no trace.

        Returns:
            The context.
        """
