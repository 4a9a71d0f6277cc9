"""The papers' teacher: sub-classes of the sample's own class."""

from typing import final

from torch import Tensor, nn

from auxilearn._checks import explain, positive
from auxilearn.errors import InputError
from auxilearn.generators._base import LabelGenerator, check_scores
from auxilearn.generators._hierarchy import Hierarchy
from auxilearn.generators._masked_softmax import masked_softmax


@final
class ConditionalLabels(LabelGenerator):
    r"""A teacher over x and y.

    .. math:: q_i = \operatorname{softmax}_{k \in \text{block}(y_i)} \big( h(x_i; \varphi)_k / T \big)

    Args:
        network: :math:`h`, from the samples to one score for each sub-class.
        hierarchy: Which sub-classes belong to which main class.
        temperature: :math:`T`; above 1 for softer labels.

    Raises:
        InputError: If an argument is out of range.

    Example:
        >>> import torch
        >>> teacher = ConditionalLabels(nn.Linear(3, 4), Hierarchy((2, 2)))
        >>> labels = teacher(torch.randn(5, 3), torch.tensor([0, 0, 1, 1, 1]))
        >>> labels[:2, 2:].abs().max().item(), labels[2:, :2].abs().max().item()
        (0.0, 0.0)

    References:
        Liu et al., "Self-Supervised Generalisation with Meta Auxiliary Learning", NeurIPS 2019; Navon et al., ICLR
        2021.
    """

    def __init__(self, network: nn.Module, hierarchy: Hierarchy, *, temperature: float = 1.0) -> None:
        super().__init__()
        positive("temperature", temperature)
        self.network = network
        self.hierarchy = hierarchy
        self.temperature = temperature

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Tensor:
        """Write the labels.

        Args:
            inputs: The samples, shape (B, ...).
            labels: The main classes, shape (B,).

        Returns:
            Shape (B, S), zero exactly outside the block of the sample's class.

        Raises:
            InputError: If there are no labels, or they do not fit the samples or the hierarchy.
        """
        rule = "A teacher over x and y needs one main class for each sample."
        if labels is None:
            raise InputError(explain(rule, "There are none.", "Pass `labels`, or use `InputLabels`."))
        scores = check_scores(self.network(inputs), self.hierarchy.num_subclasses)
        mask = self.hierarchy.mask(labels)
        if len(mask) != len(scores):
            finding = f"There are {len(mask)} for {len(scores)} samples."
            raise InputError(explain(rule, finding, "Index both by the same rows."))
        return masked_softmax(scores / self.temperature, mask)

    def extra_repr(self) -> str:
        """Describe the generator in one line.

        Returns:
            Its settings.
        """
        return f"hierarchy={self.hierarchy.sizes}, temperature={self.temperature}"
