"""ForkMerge: train with and without the auxiliary losses for a while, and go on from the best mixture of both."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from auxilearn.training import Problem, Training
from auxilearn.training._data import Rows, rows_of
from auxilearn.training._evaluate import initial_losses, main_labels, main_losses
from auxilearn.training._folds import folds_of
from auxilearn.training._objective import Weighted
from auxilearn.training._run import Run
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
        rows, start = rows_of(problem), problem.new_model()
        scale = initial_losses(problem, rows, start, seed=training.seed)
        labels = main_labels(problem, rows, start)
        fold = folds_of(labels, len(rows.labelled), max(2, round(1 / self.share)), seed=training.seed)
        kept, held = rows.labelled[fold != 0], rows.labelled[fold == 0]
        rules = (MainOnly(), Equal(normalise=self.normalise))
        branches: list[Run] = []
        for rule in rules:
            objective = Weighted(rule, scale, main=problem.main, steps=training.steps)
            model = problem.new_model()
            model.load_state_dict(start.state_dict())
            branches.append(Run(problem, rows, training, model, scale, objective, labelled=kept))
        alone, joint = branches
        for _ in range(0, training.steps, self.every):
            for branch in branches:
                for _ in range(min(self.every, training.steps - branch.number)):
                    branch.step()
            self._merge(problem, rows, joint.model, alone.model, held)
        return joint.model.eval()

    def _merge(self, problem: Problem, rows: Rows, joint: nn.Module, alone: nn.Module, held: Tensor) -> None:
        first, second = _copied(alone), _copied(joint)
        losses: list[float] = []
        for mixture in self.mixtures:
            joint.load_state_dict(_mixed(first, second, mixture))
            losses.append(float(main_losses(problem, rows, joint, held).mean()))
        best = self.mixtures[min(range(len(losses)), key=losses.__getitem__)]
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
