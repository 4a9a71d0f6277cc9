"""A teacher that does not know the main class."""

from typing import final

from torch import Tensor, nn

from auxilearn._checks import positive
from auxilearn.generators._base import LabelGenerator, check_scores


@final
class InputLabels(LabelGenerator):
    r"""A teacher over x alone.

    .. math:: q_i = \operatorname{softmax} \big( h(x_i; \varphi) / T \big)

    It can label samples without a main label. Nothing ties its sub-classes to the main classes; what they mean is
    learned from the outer loss.

    Args:
        network: :math:`h`, from the samples to one score for each sub-class.
        temperature: :math:`T`; above 1 for softer labels.

    Raises:
        InputError: If the temperature is not above 0.

    Example:
        >>> import torch
        >>> InputLabels(nn.Linear(3, 4))(torch.randn(5, 3)).sum(1).allclose(torch.ones(5))
        True
    """

    def __init__(self, network: nn.Module, *, temperature: float = 1.0) -> None:
        super().__init__()
        positive("temperature", temperature)
        self.network = network
        self.temperature = temperature

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Tensor:
        """Write the labels.

        Args:
            inputs: The samples, shape (B, ...).
            labels: Not read.

        Returns:
            Shape (B, S).
        """
        return (check_scores(self.network(inputs)) / self.temperature).softmax(-1)

    def extra_repr(self) -> str:
        """Describe the generator in one line.

        Returns:
            Its settings.
        """
        return f"temperature={self.temperature}"
