"""What readers of tables with several targets return."""

from dataclasses import dataclass
from typing import final

from torch import Tensor


@final
@dataclass(frozen=True)
class MultiTarget:
    """Samples with several numbers to predict, in their own units.

    Attributes:
        features: Shape (N, F).
        targets: Shape (N, T).
        feature_names: F names.
        target_names: T names.
    """

    features: Tensor
    targets: Tensor
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
