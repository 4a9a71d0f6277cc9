"""Methods on a small real problem: what they see, what they learn, and that stacking changes nothing."""

import dataclasses

import pytest
import torch

from auxilearn import hypergradient
from auxilearn.data import mnist_5k
from auxilearn.experiments._cross_fit import Search, cross_fit, fold_weights, leave_one_out
from auxilearn.experiments._problem import Problem, accuracy, stacked
from auxilearn.experiments._study import EQUAL, LEARNED, MAIN, ORIGINAL, OURS, RAW, Outcome, Part, run_seeds
from auxilearn.experiments._tasks import Suite
from auxilearn.experiments._training import Schedule, Step, fit, initial_scale
from auxilearn.solvers import Identity

SUITE = Suite(good=1, random=1, adversarial=1, attributes=1, bits=1, noise=1)
SHORT = Schedule(steps=30, batch=16)
PART = Part("short", SUITE, pool=200, schedule=SHORT)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return stacked(mnist_5k(), SUITE, [100, 101], per_class=5, pool=200)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return run_seeds(mnist_5k(), PART, [100])


def test_every_method_has_a_row(outcome: Outcome) -> None:
    assert {MAIN, RAW, EQUAL, ORIGINAL, LEARNED, OURS} <= outcome.accuracy.keys()
    assert all(0 <= values[0] <= 100 for values in outcome.accuracy.values())
    assert outcome.chosen[0] in {MAIN, EQUAL, LEARNED}
    assert outcome.accuracy[OURS] == outcome.accuracy[outcome.chosen[0]]


def test_outcomes_of_several_seeds_are_joined(outcome: Outcome) -> None:
    other = dataclasses.replace(outcome, seeds=[7])
    both = outcome + other
    assert both.seeds == [100, 7]
    assert both.accuracy[MAIN] == outcome.accuracy[MAIN] * 2
    assert len(both.path) == len(both.chosen) == len(both.t[LEARNED]) == 2


def test_the_good_annotator_outweighs_the_others() -> None:
    problem = stacked(mnist_5k(), SUITE, [100], per_class=5, pool=500)
    found = cross_fit(problem, Schedule(steps=100, batch=32), Search(), initial_scale(problem))
    weights = dict(zip(SUITE.kinds, found.weights[0].tolist(), strict=True))
    assert weights["good"] == max(weights.values())
    assert weights["adversarial"] < 1 < weights["good"]


def test_a_seed_gives_the_same_alone_and_in_a_stack() -> None:
    images = mnist_5k()
    alone = stacked(images, SUITE, [101], per_class=5, pool=200)
    both = stacked(images, SUITE, [100, 101], per_class=5, pool=200)
    paths = []
    for problem in (alone, both):
        found = cross_fit(problem, Schedule(steps=40, batch=16), Search(), initial_scale(problem))
        paths.append(found.path[-1])
    torch.testing.assert_close(paths[0], paths[1], rtol=1e-2, atol=1e-3)  # float32, in another order of sums


def test_one_call_gives_the_hypergradient_of_every_model(problem: Problem) -> None:
    scale = initial_scale(problem)
    seen: list[Step] = []

    def look(step: Step) -> torch.Tensor:
        if step.number == 5:
            c = (1 / scale).expand(-1, 2, -1).clone().requires_grad_()
            main = step.main.mean(-1)
            together = hypergradient(
                (c * step.auxiliary).sum() + main.sum(),
                main.sum(),
                params=step.params,
                aux_params=[c],
                solver=Identity(),
            )
            one = c.detach()[1, 0].clone().requires_grad_()
            single = hypergradient(
                (one * step.auxiliary[1, 0]).sum() + main[1, 0],
                main[1, 0],
                params=step.params,
                aux_params=[one],
                solver=Identity(),
            )
            torch.testing.assert_close(together.grads[0][1, 0], single.grads[0], rtol=1e-4, atol=1e-7)
            seen.append(step)
        return (1 / scale).expand(-1, 2, -1)

    fit(problem, Schedule(steps=6, batch=16), main_weights=torch.full((2, 2, 50), 1 / 50), weights=look)
    assert len(seen) == 1


def test_the_test_classes_are_read_for_accuracy_only(problem: Problem) -> None:
    blind = dataclasses.replace(problem, test_y=torch.full_like(problem.test_y, -1))
    scale = initial_scale(problem)
    found = [cross_fit(p, Schedule(steps=30, batch=16), Search(), scale) for p in (problem, blind)]
    assert torch.equal(found[0].weights, found[1].weights)
    net = fit(blind, Schedule(steps=2), main_weights=torch.full((2, 1, 50), 1 / 50), weights=None)
    assert float(accuracy(net, blind).max()) == 0.0


def test_a_fold_is_no_outer_target_of_its_own_weights() -> None:
    gradient = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0))
    turned = gradient.clone()
    turned[:, 0] = turned[:, 0].flip(-1)  # another direction of the same norm, which only sets the common scale
    a, b = leave_one_out(gradient)[0], leave_one_out(turned)[0]
    torch.testing.assert_close(a[0], b[0])
    assert all(not torch.allclose(a[f], b[f]) for f in range(1, 6))
    torch.testing.assert_close(a[:5].mean(0), a[5])


def test_a_large_fold_does_not_drown_the_others() -> None:
    gradient = torch.eye(3)[None] * torch.tensor([1.0, 1.0, 1000.0])
    torch.testing.assert_close(leave_one_out(gradient)[0, -1], torch.full((3,), 1 / 3))


def test_folds_split_the_labels() -> None:
    kept, held = fold_weights(50, 5)
    assert torch.equal(((kept > 0) ^ (held > 0)).all(1), torch.ones(5, dtype=torch.bool))
    torch.testing.assert_close(kept.sum(1), torch.ones(5))
    torch.testing.assert_close((held > 0).sum(0), torch.ones(50, dtype=torch.long))


def test_annealing_ends_at_a_zero_learning_rate(problem: Problem) -> None:
    rows = torch.full((2, 1, 50), 1 / 50)
    plain, annealed = (
        fit(problem, Schedule(steps=5, cosine=cosine), main_weights=rows, weights=None) for cosine in (False, True)
    )
    assert not torch.equal(plain.hidden, annealed.hidden)
