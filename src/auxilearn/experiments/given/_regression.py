"""One target of a table is known for a few rows, the others for many."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, final

import torch
from torch import Tensor, nn

from auxilearn._checks import count, explain, one_of
from auxilearn.data import MultiTarget, qm9, solar_flare
from auxilearn.errors import InputError
from auxilearn.experiments.harness._experiment import AuxiliaryTask
from auxilearn.models import MLP
from auxilearn.training import Problem


@final
@dataclass(frozen=True)
class _Table:
    read: Callable[[], MultiTarget]
    counts: bool  # mostly zeros and a few large numbers: their logarithm is predicted, log(1 + n)
    widths: tuple[int, ...]  # as large as the labels can bear


_TABLES = {
    "solar flare": _Table(solar_flare, counts=True, widths=(8,)),
    "qm9": _Table(qm9, counts=False, widths=(64, 64)),
}


@final
@dataclass(frozen=True)
class Regression:
    """Predict one target from few labels, and the other targets of the table on a pool of rows besides.

    Everything is real. All targets are divided by their standard deviation, so that no method fails by units alone, and
    of counts the logarithm is taken. Nobody knows which targets help.

    Attributes:
        dataset: ``"solar flare"`` or ``"qm9"``.
        target: The name of the main target.
        labels: Rows with the main target.
        pool: Rows with the other targets.

    Raises:
        InputError: If there is no such table, or no rows are asked for.

    Example:
        >>> task = Regression("solar flare", "c-class-flares")(0)
        >>> task.kinds
        ('main', 'm-class-flares', 'x-class-flares')

    References:
        Navon et al., ICLR 2021, Sec. 1: auxiliary targets of unknown use.
    """

    dataset: Literal["solar flare", "qm9"]
    target: str
    labels: int = 200
    pool: int = 500

    def __post_init__(self) -> None:
        one_of("dataset", self.dataset, tuple(_TABLES))
        count("labels", self.labels, 2)
        count("pool", self.pool, 2)

    def __call__(self, seed: int) -> AuxiliaryTask:
        """Make the task of a seed.

        Args:
            seed: The seed.

        Returns:
            The task; its score is the coefficient of determination on the other rows, in percent.

        Raises:
            InputError: If the table has no such target, or not enough rows.
        """
        kind = _TABLES[self.dataset]
        table = kind.read()
        one_of("target", self.target, table.target_names)
        main = table.target_names.index(self.target)
        train = self.labels + self.pool
        rows = torch.randperm(len(table.features), generator=torch.Generator().manual_seed(seed))
        if len(rows) <= train:
            finding = f"There are {len(rows)} rows, for {self.labels} labels and a pool of {self.pool}."
            raise InputError(explain("The table must have rows for a test set.", finding, "Ask for fewer."))
        few, pool, test = rows[: self.labels], rows[self.labels : train], rows[train:]
        x = _standardised(table.features, rows[:train]).clamp(-5, 5)  # some features are rare, and then enormous
        others = [i for i in range(len(table.target_names)) if i != main]
        # Units are learned where the target may be read: the main one on the few rows, the others on the pool.
        numbers = table.targets.log1p() if kind.counts else table.targets
        y = _standardised(numbers[:, main], few)
        targets = _standardised(numbers[:, others], pool)
        names = tuple(table.target_names[i] for i in others)
        problem = Problem(
            partial(MLP, x.shape[1], 1 + len(others), widths=kind.widths, seed=seed),
            regression_losses,
            data=(
                x[rows[:train]],
                torch.cat([y[few], torch.zeros(self.pool)]),
                torch.arange(train) < self.labels,
                torch.cat([torch.zeros(self.labels, len(others)), targets[pool]]),
            ),
            labelled=torch.arange(self.labels),
            names=(self.target, *names),
        )
        return AuxiliaryTask(problem, Determination(x[test], y[test]), None, ("main", *names))


@final
@dataclass(frozen=True)
class Determination:
    r"""The coefficient of determination :math:`R^2` of the first output, in percent.

    Attributes:
        features: Shape (T, F).
        truth: Shape (T,).
    """

    features: Tensor
    truth: Tensor

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> float:
        """Score a model.

        Args:
            model: A trained network.

        Returns:
            100 for perfect predictions, 0 for those of the test mean; it may be negative.
        """
        error = (model(self.features)[:, 0] - self.truth).square().mean()
        return 100 * (1 - float(error / self.truth.var(correction=0)))


def regression_losses(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Compute squared errors: of the main target on labelled rows, of the other targets on the others.

    Args:
        model: The network, with an output for each target.
        batch: Features, the main target, whether it is known, and the other targets.

    Returns:
        The losses, shape (B, K), zero where they do not exist, and the mask of those that exist.
    """
    x, y, labelled, targets = batch
    errors = (model(x) - torch.cat([y[:, None], targets], 1)).square()
    present = torch.cat([labelled[:, None], (~labelled)[:, None].expand_as(targets)], 1)
    return torch.where(present, errors, torch.zeros_like(errors)), present


def _standardised(values: Tensor, rows: Tensor) -> Tensor:
    mean, deviation = values[rows].mean(0), values[rows].std(0)
    return (values - mean) / torch.where(deviation > 0, deviation, torch.ones_like(deviation))
