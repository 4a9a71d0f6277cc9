"""What a search for penalties needs of a model: how it is trained, its two losses, and how its test rows are scored."""

import math
from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from auxilearn.bilevel import BilevelProblem

FOLDS = 5

Tensors = tuple[Tensor, ...]


class Inner(ABC):
    r"""A model whose penalties :math:`\lambda_j = e^{\theta_j}` are to be chosen, as a stack of a model for each fold.

    The models of a stack share nothing but the penalties, so that their summed losses are one inner problem.

    Args:
        rows: N, the labelled rows.
        kinds: A word for each penalty, P of them; penalties of one kind are drawn to each other.

    Attributes:
        kinds: A word for each penalty, P of them.
        kept: Which rows each fold's model is trained on, shape (folds, N): all but every fifth.
        seen: How many models were trained so far.
    """

    def __init__(self, rows: int, kinds: tuple[str, ...]) -> None:
        self.kinds = kinds
        self.kept = torch.arange(rows) % FOLDS != torch.arange(FOLDS)[:, None]
        self.seen = 0
        distinct = list(dict.fromkeys(kinds))
        self._members = torch.tensor([[kind == word for kind in kinds] for word in distinct])

    @abstractmethod
    def _train(self, theta: Tensor, kept: Tensor) -> Tensors: ...

    @abstractmethod
    def losses(self, params: Tensors) -> Tensor:
        """Compute the loss of every labelled row under every model, without penalties.

        Args:
            params: The weights of M models.

        Returns:
            Shape (M, N).
        """

    @abstractmethod
    def penalty(self, params: Tensors, theta: Tensor) -> Tensor:
        r"""Compute :math:`\tfrac12 \sum_j e^{\theta_j} \lVert w_j \rVert^2`, summed over models.

        Args:
            params: The weights of M models.
            theta: The log penalties, shape (P,).

        Returns:
            A scalar.
        """

    @abstractmethod
    def score(self, theta: Tensor) -> float:
        """Train on all labelled rows, and score the test rows; nothing else reads them.

        Args:
            theta: The log penalties, shape (P,).

        Returns:
            The score, higher is better.
        """

    @final
    def solve(self, theta: Tensor, kept: Tensor) -> Tensors:
        """Train a stack.

        Args:
            theta: The log penalties, shape (P,).
            kept: Which rows each of M models is trained on, shape (M, N).

        Returns:
            The weights, without a graph; the first dimension of every tensor is M.
        """
        self.seen += len(kept)
        return self._train(theta.detach(), kept)

    @final
    def train_loss(self, params: Tensors, theta: Tensor, kept: Tensor) -> Tensor:
        """Compute the inner loss: mean losses of the rows kept, and the penalty, summed over models.

        Args:
            params: The weights of M models.
            theta: The log penalties, shape (P,).
            kept: Which rows each model is trained on, shape (M, N).

        Returns:
            A scalar.
        """
        return (_shares(kept, params[0]) * self.losses(params)).sum() + self.penalty(params, theta)

    @final
    def held_out(self, params: Tensors) -> Tensor:
        """Compute the outer loss: the mean over folds of each model's mean loss on the rows that it has not seen.

        Args:
            params: The weights of the folds' models.

        Returns:
            A scalar.
        """
        return (_shares(~self.kept, params[0]) * self.losses(params)).sum() / FOLDS

    @final
    @torch.no_grad()
    def validated(self, theta: Tensor) -> float:
        """Cross-validate.

        Args:
            theta: The log penalties, shape (P,).

        Returns:
            The outer loss after training; infinite if it is not a number.
        """
        found = float(self.held_out(self.solve(theta, self.kept)))
        return math.inf if math.isnan(found) else found

    @final
    def problem(self, theta: Tensor, *, prior: float) -> BilevelProblem:
        r"""Train the folds' models, and describe the bilevel problem there.

        .. math:: L_A = \text{held-out loss} + \frac{\rho}{P} \sum_j (\theta_j - \bar\theta_{\text{kind of } j})^2

        Args:
            theta: The log penalties, shape (P,).
            prior: :math:`\rho`, by which log penalties are drawn to the mean of their kind, which is free.

        Returns:
            The problem.
        """
        return BilevelProblem(
            train_loss=lambda params, aux: self.train_loss(params, aux[0], self.kept),
            val_loss=lambda params, aux: self.held_out(params) + prior * self._spread(aux[0]),
            params=tuple(p.requires_grad_() for p in self.solve(theta, self.kept)),
            aux_params=(theta.detach().clone().requires_grad_(),),
        )

    def _spread(self, theta: Tensor) -> Tensor:
        members = self._members.to(theta.dtype)
        means = members @ theta / members.sum(1)
        return (theta - means @ members).square().mean()


def _shares(rows: Tensor, like: Tensor) -> Tensor:
    counted = rows.to(like.dtype)
    return counted / counted.sum(1, keepdim=True)
