"""Every method of combining trains, leaves a curve, and resumes exactly."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce._recipe import Budget
from auxilearn.experiments.reproduce._reproduction import Setup
from auxilearn.experiments.reproduce.combined._learned import LearnedCombiner, rescaled
from auxilearn.experiments.reproduce.combined._methods import RULES, Alone, combined_methods
from auxilearn.experiments.reproduce.combined._task import CombinedTask
from auxilearn.training._sampler import Sampler
from tiny_reproduction import accuracy, losses, pixel_task, task

METHODS = combined_methods(pixels=True)
ON_SAMPLES = [name for name in METHODS if "ConvNet" not in name]


def tiny(tmp_path: Path, budget: Budget = "smoke") -> CombinedTask:
    return task(Setup(tmp_path, budget, 0, torch.device("cpu"), tmp_path / "splits"))


@pytest.mark.parametrize("name", ON_SAMPLES)
def test_a_method_learns_the_digits(name: str, tmp_path: Path) -> None:
    found = tiny(tmp_path)
    start = accuracy(found.problem.new_model(), *found.test)
    outcome = METHODS[name](found, Place(tmp_path, 0))
    assert not outcome.model.training
    # Forty steps of 20 of 80 labels; the untrained network guesses.
    assert accuracy(outcome.model, *found.test) > max(start, 15.0) + 10
    if name not in ("tuned scale", "random search"):
        assert len((tmp_path / "curve.csv").read_text().splitlines()) > 4


def test_the_protocol_is_whole() -> None:
    assert next(iter(METHODS)) == "main only"
    assert list(METHODS)[-1] == "ours"
    assert len(RULES) == 17
    assert {"tuned scale", "random search", "ForkMerge", "MGDA", "AuxiLearn, ConvNet", "ours, bent"} <= METHODS.keys()
    assert not any("ConvNet" in name for name in combined_methods())


def test_one_task_alone_learns_that_task(tmp_path: Path) -> None:
    found = tiny(tmp_path)
    model = Alone("odd")(found, Place(tmp_path, 0)).model
    before, after = (losses(m, found.problem.data).mean(0) for m in (found.problem.new_model(), model))
    assert after[1] < before[1] / 2
    assert accuracy(model, *found.test) < 40


class Stop:
    """Interrupts at the n-th step, as Ctrl-C does."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, phase: str, step: int, steps: int) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["equal", "ForkMerge", "AuxiLearn, nonlinear", "ours, fast", "tuned scale"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    wanted = METHODS[name](tiny(tmp_path), Place(whole, 0))
    with pytest.raises(KeyboardInterrupt):
        METHODS[name](tiny(tmp_path), Place(broken, 0, Stop(23)))
    steps: list[int] = []
    found = METHODS[name](tiny(tmp_path), Place(broken, 0, lambda phase, step, all_: steps.append(step)))
    assert steps[0] in (23, 24)
    for name_, value in wanted.model.state_dict().items():
        assert torch.equal(value, found.model.state_dict()[name_]), name_
    for file in whole.rglob("curve.csv"):
        assert file.read_text() == (broken / file.relative_to(whole)).read_text()


@pytest.mark.parametrize("published", [True, False])
def test_a_convolutional_combiner_learns_on_pixels(published: bool, tmp_path: Path) -> None:
    found = pixel_task()
    outcome = LearnedCombiner("ConvNet", published=published)(found, Place(tmp_path, 0))
    before, after = (found.problem.losses(m, found.problem.data) for m in (found.problem.new_model(), outcome.model))
    assert isinstance(before, torch.Tensor)
    assert isinstance(after, torch.Tensor)
    assert (after.mean(0) < before.mean(0)).all()
    weights = outcome.details["weights"]
    assert weights.keys() == {"class", "red"}
    assert all(weight > 0 for weight in weights.values())


def test_held_out_rows_are_never_trained_on(tmp_path: Path) -> None:
    found = tiny(tmp_path)
    x, y = found.problem.data
    spoiled = y.clone()
    spoiled[:16] = (spoiled[:16] + 1) % 10
    # With an outer rate of zero the auxiliary set is read, but changes nothing.
    still = replace(found.settings, outer_lr=1e-300, outer_decay=0.0)
    models = []
    for labels in (y, spoiled):
        problem = replace(found.problem, data=(x, labels))
        one = replace(found, problem=problem, settings=still, validate=None)
        folder = tmp_path / str(len(models))
        folder.mkdir()
        models.append(LearnedCombiner("linear")(one, Place(folder, 0)).model)
    first, second = (torch.cat([p.flatten() for p in model.parameters()]) for model in models)
    assert torch.equal(first, second)


def test_the_published_method_is_the_original_s_loop_by_hand(tmp_path: Path) -> None:
    # Plain autograd only: Adam on the weighted sum, after five steps one outer step of SGD by the series
    # sum_j (I - alpha H)^j v without its leading alpha, the gradient clipped to 25.
    found = tiny(tmp_path)
    settings = replace(found.settings, epochs=1, batch=4, schedule="constant", every=5, looks=1)
    found = replace(found, settings=settings, epoch=20, validate=None)
    outcome = LearnedCombiner("linear")(found, Place(tmp_path, 0))

    x, y = found.problem.data
    model = found.problem.new_model()
    weights = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr)
    train = Sampler(torch.arange(16, 80), torch.empty(0, dtype=torch.long), batch_size=4, seed=0)
    held = Sampler(torch.arange(16), torch.empty(0, dtype=torch.long), batch_size=4, seed=1)
    for _ in range(5):
        rows = train.draw()
        optimizer.zero_grad()
        (weights.detach() * losses(model, (x[rows], y[rows])).mean(0)).sum().backward()
        optimizer.step()
    params = list(model.parameters())
    means = losses(model, (x[rows], y[rows])).mean(0)
    rows = held.draw()
    v = list(torch.autograd.grad(losses(model, (x[rows], y[rows]))[:, 0].mean(), params))
    slope = torch.autograd.grad((weights * means).sum(), params, create_graph=True)
    total, term = v, v
    for _ in range(settings.terms):
        product = torch.autograd.grad(slope, params, term, retain_graph=True)
        term = [t - settings.alpha * h for t, h in zip(term, product, strict=True)]
        total = [a + b for a, b in zip(total, term, strict=True)]
    gradient = -torch.autograd.grad(slope, weights, total)[0]
    gradient = gradient * min(1.0, settings.clip / float(gradient.norm() + 1e-6))
    expected = 1 - settings.outer_lr * (gradient + settings.outer_decay * 1)
    assert list(outcome.details["weights"].values()) == pytest.approx(expected.tolist(), abs=1e-6)
    assert max(abs(1 - w) for w in expected.tolist()) > 1e-4
    for p, q in zip(model.parameters(), outcome.model.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_rescaling_makes_all_means_means_over_truths() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(4, 3, 5, 6, generator=generator, dtype=torch.float64)
    present = torch.rand(values.shape, generator=generator) < 0.3
    present[:, 2] = False
    found = rescaled(values * present, present).mean((0, 2, 3))
    for k in range(2):
        assert found[k] == pytest.approx(float(values[:, k][present[:, k]].mean()))
    assert found[2] == 0


def test_the_published_convolutional_combiner_has_settings_of_its_own(tmp_path: Path) -> None:
    found = pixel_task()
    still = replace(found.settings, outer_lr=1e-300, outer_decay=0.0)
    weights = []
    for own in (None, still):
        folder = tmp_path / str(len(weights))
        folder.mkdir()
        task = replace(found, published_conv=own)
        weights.append(LearnedCombiner("ConvNet")(task, Place(folder, 0)).details["weights"])
    assert weights[0] != weights[1]
