"""Every method of the comparison trains on a real task, and the same labels and batches reach all of them."""

import math

import pytest
import torch

from auxilearn.experiments.given._annotators import Annotators
from auxilearn.experiments.given._fork_merge import ForkMerge
from auxilearn.experiments.given._methods import MAIN_ONLY, OURS, methods, told_apart
from auxilearn.experiments.given._original import train_original
from auxilearn.training import Trainer, Training
from auxilearn.weighting import MainOnly

TRAINING = Training(steps=60)
TASK = Annotators("digits", good=1, random=1, adversarial=1)
METHODS = methods(TRAINING)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_and_says_what_it_did(name: str) -> None:
    result = METHODS[name](TASK(100), 100)
    assert 5.0 < result.score <= 100.0
    assert result.seconds > 0.0
    weights = result.details.get("weights")
    assert weights is None or (len(weights) == 4 and all(map(math.isfinite, weights)))


@pytest.mark.parametrize("name", [MAIN_ONLY, "random search", "AuxiLearn 1.0", "ForkMerge"])
def test_a_method_is_a_function_of_task_and_seed(name: str) -> None:
    first, second = (METHODS[name](TASK(100), 100) for _ in range(2))
    assert first.score == second.score
    assert first.details == second.details


def test_ours_says_what_the_gate_chose_and_whether_usefulness_ranks() -> None:
    details = METHODS[OURS](TASK(100), 100).details
    assert details["chosen"] in {"main only", "equal", "learned"}
    assert 0.0 <= details["auc"] <= 1.0
    assert len(details["usefulness"]) == 3


def test_auc_counts_pairs() -> None:
    scores, positive = [0.1, 0.4, 0.35, 0.8, 0.4], [False, False, True, True, True]
    pairs = [(0.35, 0.1), (0.35, 0.4), (0.8, 0.1), (0.8, 0.4), (0.4, 0.1), (0.4, 0.4)]
    exact = sum(1.0 if u > d else 0.5 if u == d else 0.0 for u, d in pairs) / len(pairs)
    assert told_apart(scores, positive) == pytest.approx(exact)
    assert told_apart(scores, [True] * 5) is None


def test_fork_merge_without_the_joint_branch_is_training_on_the_main_loss() -> None:
    problem = TASK(100).problem
    merged = ForkMerge(every=20, mixtures=(0.0,), share=0.2)(problem, TRAINING)
    fewer = Trainer(problem, MainOnly(), TRAINING)
    assert problem.logits is not None
    # Its main branch trains on the labels that are not held out, so it is near, but not at, training on all of them.
    alone = fewer.fit().model
    assert isinstance(problem.data, tuple)
    guesses = [problem.logits(model, problem.data)[0].argmax(1) for model in (merged, alone)]
    assert float((guesses[0] == guesses[1]).float().mean()) > 0.5


def test_the_original_clamps_its_weights_and_moves_them() -> None:
    model, weights = train_original(TASK(100).problem, TRAINING)
    assert not model.training
    assert bool((weights >= 0).all())
    assert not torch.equal(weights, torch.ones(4))
