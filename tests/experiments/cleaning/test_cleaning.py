"""Hyper-cleaning on real digits, shortened: what methods see, what they learn, and that stacking changes nothing."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from auxilearn.errors import InputError
from auxilearn.experiments.cleaning._experiment import CLEANING, LINEAR, MLP, OURS, cleaning_methods, features_of
from auxilearn.experiments.cleaning._nets import StackedClassifier, accuracies, cross_entropies, fit, objective
from auxilearn.experiments.cleaning._online import train_online
from auxilearn.experiments.cleaning._rule import Rule, Settings, _Inner, learn
from auxilearn.experiments.cleaning._task import CleaningTask, cleaning_task
from auxilearn.experiments.harness._auc import auc
from auxilearn.implicit import hypergradient
from auxilearn.solvers import ConjugateGradient

SHORT = Settings(steps=4, rescore=2)


@pytest.fixture(scope="module")
def task() -> CleaningTask:
    return cleaning_task("digits", rate=0.6, clean=50, noisy=200, seed=100)


def test_labels_are_replaced_at_the_rate() -> None:
    task = cleaning_task("mnist", rate=0.5, clean=200, noisy=3000, seed=0)
    assert abs(float(task.right.float().mean()) - 0.55) < 0.03  # a tenth of the replaced ones stays right
    assert all(block.unique().numel() == 10 for block in task.clean_y.split(10))
    assert len(task.clean_y) + len(task.noisy_y) + len(task.test_y) == 5000


def test_a_seed_is_a_task() -> None:
    first, again, other = (cleaning_task("digits", rate=0.5, clean=50, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.noisy_y, again.noisy_y)
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.noisy_y, other.noisy_y)


@pytest.mark.parametrize(("clean", "noisy"), [(105, 1000), (0, 1000), (5000, 100), (100, 1697)])
def test_impossible_sizes_are_named(clean: int, noisy: int) -> None:
    with pytest.raises(InputError, match=r"must"):
        cleaning_task("digits", rate=0.5, clean=clean, noisy=noisy, seed=0)


def test_auc_counts_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(0, 5, (40,), generator=generator).float()
    right = torch.rand(40, generator=generator) < 0.4
    pairs = weights[right][:, None] - weights[~right]
    assert auc(weights, right) == pytest.approx(float(((pairs > 0) + 0.5 * (pairs == 0)).mean()))


def test_a_stack_trains_as_its_models_alone(task: CleaningTask) -> None:
    weights = torch.stack([task.weights(1, 0), task.weights(5, 1)])
    decay = torch.tensor([0.01, 0.03])
    sizes = (196, 8, 10)
    both = fit(StackedClassifier(sizes, models=2, seed=1), task.x, task.y, weights=weights, decay=decay, steps=20)
    for i in range(2):
        rows = slice(i, i + 1)
        alone = StackedClassifier(sizes, models=1, seed=1)
        fit(alone, task.x, task.y, weights=weights[rows], decay=decay[rows], steps=20)
        torch.testing.assert_close(both(task.test_x)[i], alone(task.test_x)[0], rtol=1e-3, atol=1e-4)


def test_the_objective_is_its_formula(task: CleaningTask) -> None:
    net = StackedClassifier((196, 4, 10), models=1, seed=0).double()
    x, weights = task.x.double(), torch.rand(1, 250, dtype=torch.float64)
    a, b, c, d = (p.detach()[0] for pair in zip(net.matrices, net.biases, strict=True) for p in pair)
    logits = ((x @ a + b).relu() @ c) + d
    slow = sum(w * functional.cross_entropy(z, y) for w, z, y in zip(weights[0], logits, task.y, strict=True))
    slow = slow / weights.sum() + 0.05 * (a.square().sum() + c.square().sum())
    found = objective(net, cross_entropies(net(x), task.y), weights, torch.tensor([0.1], dtype=torch.float64))
    torch.testing.assert_close(found, slow, rtol=1e-12, atol=0)


def test_the_rule_is_the_posterior_of_replaced_labels() -> None:
    # Of 10 classes at rate r, a label to which a right model gives p is kept with this probability, by Bayes.
    r, p = 0.6, torch.tensor([0.9, 0.3, 0.01])
    rule = Rule(Settings(threshold=float(torch.tensor(10 * (1 - r) / r).log())))
    torch.testing.assert_close(rule.weights(-p.log()), (1 - r) * p / ((1 - r) * p + r / 10))


def test_no_sample_is_scored_by_a_model_that_saw_it(task: CleaningTask) -> None:
    features, _ = features_of(task, LINEAR)
    inner = _Inner(task, features, folds=5, seed=0)
    clean = len(task.clean_y)
    seen, scored = inner.rows[:, clean:], inner._swap(inner.rows[:, clean:])
    for a, b in zip(seen, scored, strict=True):
        assert not set(a.tolist()) & set(b.tolist())
    # The scores lie as the rows do: row m of them is for the samples that model m is trained on.
    losses = cross_entropies(inner.net(features), task.y)
    for m, other in enumerate([1, 0, 3, 2, 5, 4, 7, 6, 9, 8]):
        torch.testing.assert_close(inner.scores()[m], losses[other, inner.rows[m, clean:]])
    joined = inner.joined(inner.scores())
    half = losses[1::2].mean(0)[clean + inner.halves[0]]  # half 0 is scored by the models that saw half 1
    torch.testing.assert_close(joined[inner.halves[0]], half)


def in_double(task: CleaningTask, folds: int) -> _Inner:
    double = dataclasses.replace(task, clean_x=task.clean_x.double(), noisy_x=task.noisy_x.double())
    inner = _Inner(double, double.x[:, ::8], folds=folds, seed=0)
    inner.net.double()
    inner.kept, inner.held = inner.kept.double(), inner.held.double()
    return inner


def test_a_held_fold_has_no_part_in_its_own_models() -> None:
    task, rule = cleaning_task("digits", rate=0.6, clean=20, noisy=40, seed=0), Rule(Settings(log_decay=-1.0)).double()
    weights = []
    for label in (0, 1):
        task.clean_y[:10] = label  # the first block: fold 0
        inner = in_double(task, 2)
        scores = torch.zeros(4, inner.half, dtype=torch.float64)
        for _ in range(2):  # through the scores, too
            for _ in range(4):
                inner.solve(rule, scores, 100)
            scores = inner.scores()
        weights.append(inner.net.matrices[0].detach())
    torch.testing.assert_close(weights[0][:2], weights[1][:2], rtol=0, atol=1e-5)
    assert float((weights[0][2:] - weights[1][2:]).abs().max()) > 0.01


def test_the_hypergradient_is_that_of_the_retrained_optimum() -> None:
    task = cleaning_task("digits", rate=0.6, clean=20, noisy=40, seed=0)
    inner, rule = in_double(task, 2), Rule(Settings(log_decay=-1.0)).double()
    scores = torch.rand(4, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def value() -> float:
        for _ in range(4):
            inner.solve(rule, scores, 100)
        return inner.val_loss(rule).item()

    value()
    train = inner.train_loss(rule, inner.losses(), scores)
    found = hypergradient(
        train,
        inner.val_loss(rule),
        params=inner.net.parameters(),
        aux_params=rule.parameters(),
        solver=ConjugateGradient(max_steps=400, tolerance=1e-10),
    )
    for name, grad in zip(dict(rule.named_parameters()), found.grads, strict=True):
        p, ends = getattr(rule, name), []
        for sign in (1, -1):
            with torch.no_grad():
                p += sign * 1e-3
            ends.append(value())
            with torch.no_grad():
                p -= sign * 1e-3
        assert grad.item() == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-2, abs=1e-5), name


def test_learning_tells_right_labels_from_wrong_ones() -> None:
    task = cleaning_task("digits", rate=0.5, clean=100, noisy=400, seed=100)
    features, _ = features_of(task, MLP)
    found = learn(task, features, SHORT, seed=100)
    assert auc(found.weights, task.right) > 0.95
    assert found.outer[-1] < found.outer[0]
    assert found.weights.shape == (400,)


def test_an_odd_sample_is_weighted_too() -> None:
    task = cleaning_task("digits", rate=0.5, clean=50, noisy=101, seed=100)
    found = learn(task, features_of(task, LINEAR)[0], SHORT, seed=0)
    assert found.weights.shape == (101,)
    assert bool(found.weights.isfinite().all())


def test_nothing_learned_leaves_the_rule(task: CleaningTask) -> None:
    found = learn(task, features_of(task, LINEAR)[0], dataclasses.replace(SHORT, lr=0.0), seed=0)
    assert found.rule["threshold"] == SHORT.threshold
    assert found.rule["log_decay"] == SHORT.log_decay


def test_the_original_clamps_at_zero(task: CleaningTask) -> None:
    decay = torch.tensor([0.01, 0.1])
    net = StackedClassifier((196, 10), models=2, seed=0)

    def outer(p: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(p, lr=0.7)

    weights = train_online(task, net, decay, optimizer=outer, steps=40)
    assert weights.shape == (2, 200)
    assert float(weights.min()) == 0.0
    assert min(accuracies(net, task.test_x, task.test_y)) > 20


@pytest.mark.parametrize("model", [LINEAR, MLP], ids=lambda m: m.name)
def test_every_method_has_a_score(task: CleaningTask, model: object) -> None:
    methods = cleaning_methods(model, SHORT)  # type: ignore[arg-type]
    found = {name: method(task, 100) for name, method in methods.items()}
    assert all(0 < result.score <= 100 and result.seconds > 0 for result in found.values())
    assert found["clean weighted, tuned"].score >= found["clean weighted × 5"].score  # it may choose 5 itself
    assert found["oracle"].score > found["all noisy"].score
    assert 0 <= found[OURS].details["auc"] <= 1


def test_nothing_but_the_score_depends_on_the_test_set(task: CleaningTask) -> None:
    blind = dataclasses.replace(task, test_y=(task.test_y + 1) % 10, right=~task.right, test_x=task.test_x.flip(0))
    ours = cleaning_methods(LINEAR, SHORT)[OURS]
    assert ours(task, 1).details["rule"] == ours(blind, 1).details["rule"]


def test_the_experiment_has_eight_cells() -> None:
    names = [cell.name for cell in CLEANING.cells]
    assert len(set(names)) == len(names) == 8
    assert all(CLEANING.ours in cell.methods for cell in CLEANING.cells)
    assert all(a.methods.keys() == b.methods.keys() for a, b in pairwise(CLEANING.cells))
    task = CLEANING.cells[0].task(5)
    assert (len(task.clean_y), len(task.noisy_y)) == (100, 1000)
