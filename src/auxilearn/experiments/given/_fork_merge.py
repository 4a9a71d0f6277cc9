"""ForkMerge: train with and without the auxiliary losses for a while, and go on from the best mixture of both."""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from auxilearn.training import Problem, Training
from auxilearn.training._data import rows_of
from auxilearn.training._evaluate import initial_losses, main_labels, main_losses
from auxilearn.training._folds import folds_of
from auxilearn.training._objective import Weighted
from auxilearn.training._run import Run
from auxilearn.training._stateful import Stateful
from auxilearn.weighting import Equal, MainOnly


@final
@dataclass(frozen=True)
class ForkMerge:
    r"""Fork, train each branch, and merge by validation.

    .. math:: W \leftarrow \lambda\, W_{\text{joint}} + (1 - \lambda)\, W_{\text{main}}, \qquad
        \lambda = \arg\min_\lambda L_{\text{val}}

    Attributes:
        every: Steps between two merges.
        mixtures: The candidates for λ.
        share: The share of the main labels that is held out for validation, as the method needs.
        normalise: Whether the joint branch divides each loss by its initial value.

    References:
        Jiang et al., "ForkMerge: Mitigating Negative Transfer in Auxiliary-Task Learning", NeurIPS 2023, Alg. 1 with
        two branches: with many auxiliary losses, one branch each would cost K training runs.
    """

    every: int = 50
    mixtures: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    share: float = 0.2
    normalise: bool = True

    def __call__(self, problem: Problem, training: Training) -> nn.Module:
        """Train a model.

        Args:
            problem: The problem.
            training: The inner training; each branch takes all its steps.

        Returns:
            The merged model, in evaluation mode.
        """
        forked = Forked(self, problem, training)
        for _ in range(training.steps):
            forked.step()
        return forked.model.eval()


@final
class Forked(Stateful):
    """The two branches on their way.

    Args:
        settings: The method's.
        problem: The problem.
        training: The inner training.

    Attributes:
        number: Steps taken.
    """

    def __init__(self, settings: ForkMerge, problem: Problem, training: Training) -> None:
        self._settings, self._problem, self._steps = settings, problem, training.steps
        self._rows, start = rows_of(problem), problem.new_model()
        scale = initial_losses(problem, self._rows, start, seed=training.seed)
        labels = main_labels(problem, self._rows, start)
        folds = max(2, round(1 / settings.share))
        fold = folds_of(labels, len(self._rows.labelled), folds, seed=training.seed)
        kept, self._held = self._rows.labelled[fold != 0], self._rows.labelled[fold == 0]
        branches: list[Run] = []
        for rule in (MainOnly(), Equal(normalise=settings.normalise)):
            objective = Weighted(rule, scale, main=problem.main, steps=training.steps)
            model = problem.new_model()
            model.load_state_dict(start.state_dict())
            branches.append(Run(problem, self._rows, training, model, scale, objective, labelled=kept))
        self._alone, self._joint = branches
        self.number = 0

    @property
    def model(self) -> nn.Module:
        """The model of the joint branch: the merged one, right after a merge."""
        return self._joint.model

    @property
    def means(self) -> Tensor:
        """The mean of each loss over the joint branch's last batch, (K,)."""
        return self._joint.means

    def step(self) -> None:
        """Take a step in both branches, and merge them where it is due, at the latest after the last step."""
        self._alone.step()
        self._joint.step()
        self.number += 1
        if self.number % self._settings.every == 0 or self.number == self._steps:
            self._merge()

    def state_dict(self) -> dict[str, Any]:
        """Return both branches.

        Returns:
            The state.
        """
        return {"number": self.number, "alone": self._alone.state_dict(), "joint": self._joint.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self.number = int(state["number"])
        self._alone.load_state_dict(state["alone"])
        self._joint.load_state_dict(state["joint"])

    def _merge(self) -> None:
        alone, joint = self._alone.model, self._joint.model
        first, second = _copied(alone), _copied(joint)
        losses: list[float] = []
        for mixture in self._settings.mixtures:
            joint.load_state_dict(_mixed(first, second, mixture))
            losses.append(float(main_losses(self._problem, self._rows, joint, self._held).mean()))
        best = self._settings.mixtures[min(range(len(losses)), key=losses.__getitem__)]
        for model in (joint, alone):
            model.load_state_dict(_mixed(first, second, best))
            model.train()


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in model.state_dict().items()}


def _mixed(first: dict[str, Tensor], second: dict[str, Tensor], mixture: float) -> dict[str, Tensor]:
    # Counters and other integers cannot be mixed, and are those of the joint branch.
    return {
        name: torch.lerp(t, second[name], mixture) if t.is_floating_point() else second[name]
        for name, t in first.items()
    }
