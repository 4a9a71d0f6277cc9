"""The combiners of the ablations, by functions that a process can send to another."""

import torch

from auxilearn.combiners import MLP, DeepLinear, LossCombiner


def deep(num_losses: int) -> LossCombiner:
    """Build the deep linear combiner of the ablation.

    Args:
        num_losses: The number of auxiliary losses.

    Returns:
        The combiner.
    """
    return DeepLinear(num_losses, hidden=(8,))


def perceptron(num_losses: int) -> LossCombiner:
    """Build the nonlinear combiner of the paper, with the same initial matrices every time.

    Args:
        num_losses: The number of auxiliary losses.

    Returns:
        The combiner.
    """
    return MLP(num_losses, generator=torch.Generator().manual_seed(0))
