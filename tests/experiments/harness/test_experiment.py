"""What an experiment is made of stays as it was given."""

import dataclasses

import pytest
import torch
from torch import nn

from auxilearn.experiments.harness._experiment import AuxiliaryTask, Result
from auxilearn.training import Problem
from tiny_experiment import EXPERIMENT


def test_a_task_is_the_same_for_the_same_seed() -> None:
    cell = EXPERIMENT.cells[0]
    assert cell.task(3) == cell.task(3) != cell.task(4)


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        EXPERIMENT.cells[0].name = "another"  # type: ignore[misc]
    assert isinstance(EXPERIMENT.cells[0].methods["ours"](torch.tensor(0.0), 0), Result)


def test_an_auxiliary_task_holds_a_problem_and_its_score() -> None:
    x = torch.randn(8, 2)
    problem = Problem(nn.Linear(2, 2), lambda model, batch: (model(batch[0]) - batch[0]).square(), data=(x,))
    task = AuxiliaryTask(problem, lambda model: -float(model(x).detach().square().mean()), None, ("main", "good"))
    assert task.score(task.problem.new_model()) < 0
