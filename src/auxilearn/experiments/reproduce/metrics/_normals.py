"""Angles between surface normals."""

from typing import Any, final

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn._extras import require
from auxilearn.errors import InputError

_WITHIN = (11.25, 22.5, 30.0)


@final
class NormalErrors:
    r"""Mean and median angle, and the shares of small ones, over all pixels of the data set with a known normal.

    .. math:: \theta_p = \operatorname{atan2}(\lVert \hat n_p \times n_p \rVert,\; \hat n_p \cdot n_p),
        \qquad n_p \neq 0

    This is the arc cosine of MTAN, but exact near 0, and the lengths of the vectors do not matter; a guess of zero is
    at 90°. MTAN averages the medians of batches; this is the median of all pixels, whose angles are kept for it, 4
    bytes each.

    Example:
        >>> errors = NormalErrors()
        >>> x, y = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
        >>> errors.update(torch.stack([x, x, x])[..., None, None], torch.stack([x, y, 0 * x])[..., None, None])
        >>> errors.compute()["mean angle"], errors.compute()["within 30°"]
        (45.0, 50.0)
    """

    def __init__(self) -> None:
        self._angles: list[Tensor] = []

    def update(self, guess: Tensor, truth: Tensor) -> None:
        """Count a batch.

        Args:
            guess: Vectors, shape (B, 3, H, W).
            truth: Vectors, the same shape; zero is unknown.

        Raises:
            InputError: If the shapes differ, or are others, or a guess is NaN or infinite.
        """
        rule = "Normals must be finite, of shape (B, 3, H, W), guess and truth alike."
        if guess.shape != truth.shape or guess.dim() != 4 or guess.shape[1] != 3:
            finding = f"The shapes are {tuple(guess.shape)} and {tuple(truth.shape)}."
            raise InputError(explain(rule, finding, "Keep the three channels."))
        known = (truth != 0).any(1)
        one, other = (vectors.movedim(1, -1)[known].double() for vectors in (guess, truth))
        if not bool(one.isfinite().all()):
            raise InputError(explain(rule, "A guess is NaN or infinite.", "Look where the training diverged."))
        sine = torch.cross(one, other, dim=-1).square().sum(-1).sqrt()
        angles = torch.atan2(sine, (one * other).sum(-1)).rad2deg()
        angles = angles.masked_fill((one == 0).all(-1), 90.0)
        self._angles.append(angles.float().cpu())

    def compute(self) -> dict[str, float]:
        """Return the metrics.

        Returns:
            Angles in degrees and shares in percent, by name.

        Raises:
            InputError: If no normal was known.
        """
        numpy: Any = require("numpy", extra="reproduce")
        angles = torch.cat([torch.empty(0), *self._angles])
        if not len(angles):
            rule = "Normals must be measured on known pixels."
            raise InputError(explain(rule, "No normal is known.", "Check the data; zero is unknown."))
        shares = {f"within {limit:g}°": 100 * float((angles < limit).double().mean()) for limit in _WITHIN}
        median = float(numpy.median(angles.numpy()))
        return {"mean angle": float(angles.double().mean()), "median angle": median, **shares}
