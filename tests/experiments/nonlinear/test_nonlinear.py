"""Annotators who are right now and then: their tasks, the robust losses, and what a combiner does to their labels."""

import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.nn import functional
from torch.testing import assert_close

from auxilearn.combiners import Bent, Linear
from auxilearn.data import few_labels
from auxilearn.experiments.given._image_task import read
from auxilearn.experiments.given._losses import image_losses
from auxilearn.experiments.harness._experiment import Result
from auxilearn.experiments.nonlinear._experiment import (
    LINEAR,
    NONLINEAR,
    OURS,
    PERCEPTRON,
    methods,
    perceptron,
    pulls,
    slopes,
)
from auxilearn.experiments.nonlinear._pictures import draw_pulls
from auxilearn.experiments.nonlinear._task import Generalised, NoisyAnnotators, Trusting
from auxilearn.training import Fit, Training

ANNOTATORS = NoisyAnnotators("digits", (0.7, 0.3), pool=400)


def test_labels_are_right_as_often_as_it_says_and_the_oracle_knows_where():
    images, task = read("digits"), ANNOTATORS(3)
    pool = images.classes[few_labels(images.classes, seed=3, per_class=5, pool=400).pool]
    right = ANNOTATORS.right(3)
    assert not right[:50].any()
    assert torch.equal(right[50:], task.problem.data[2][50:] == pool[:, None])
    assert right[50:].double().mean(0).tolist() == pytest.approx([0.7, 0.3], abs=0.08)
    assert task.kinds == ("main", "70 % right", "30 % right")
    assert task.helpful.tolist() == [True, True, True]
    assert NoisyAnnotators("digits", (1.0, 0.1, 0.0))(0).helpful.tolist() == [True, True, False, False]


def test_network_has_one_hidden_layer_and_its_seed():
    first, second, other = (ANNOTATORS(seed).problem.new_model().state_dict() for seed in (3, 3, 4))
    assert first["layers.0.weight"].shape == (64, 64)
    assert torch.equal(first["head.weight"], second["head.weight"])
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("q", [0.3, 1.0])
def test_generalised_cross_entropy(q):
    problem = ANNOTATORS(3).problem
    model = problem.new_model()
    losses, present = Generalised(q)(model, problem.data)
    plain, mask = image_losses(model, problem.data)
    p = functional.softmax(model(problem.data[0])[50:], 1).gather(1, problem.data[2][50:])
    assert_close(losses[50:, 1:], (1 - p**q) / q)
    assert_close(losses[:, 0], plain[:, 0])
    assert torch.equal(present, mask)


def test_generalised_cross_entropy_becomes_the_plain_one():
    problem = ANNOTATORS(3).problem
    model = problem.new_model().double()
    batch = (problem.data[0].double(), *problem.data[1:])
    assert_close(Generalised(1e-6)(model, batch)[0], image_losses(model, batch)[0], rtol=1e-4, atol=1e-5)


def test_oracle_sees_right_labels_only():
    problem, right = ANNOTATORS(3).problem, ANNOTATORS.right(3)
    model = problem.new_model()
    losses, present = Trusting()(model, (*problem.data, right))
    assert torch.equal(present[:, 1:], right)
    assert torch.equal(present[:, 0], problem.data[1] >= 0)
    assert_close(losses[right.any(1)][:, 1:], (image_losses(model, problem.data)[0][:, 1:] * right)[right.any(1)])


def test_slopes_are_weights_of_samples():
    combiner = Bent(2).double()
    for p in combiner.parameters():
        p.data.fill_(-0.5)
    losses = 3 * torch.rand(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 1e-6 * torch.eye(12, dtype=torch.float64).reshape(12, 6, 2)
    by_differences = torch.stack([(combiner(losses + d) - combiner(losses - d)) / 2e-6 for d in step]) * 6
    assert_close(slopes(combiner, losses).flatten(), by_differences.detach(), rtol=1e-5, atol=1e-7)


def test_a_weight_pulls_at_right_and_wrong_labels_alike_and_a_bend_does_not():
    task, right = ANNOTATORS(3), ANNOTATORS.right(3)
    images = read("digits")
    model = _trained(images.pixels, images.classes, task.problem.new_model())
    combiner = Bent(2)
    combiner.bend.tau.data.fill_(-3.0)
    shares = {}
    for name, g in {"linear": Linear(2), "bent": combiner}.items():
        found = pulls(Fit(model, {}, g), task.problem, right)
        shares[name] = found["share to right labels"]
        assert max(pull[0] for pull in found["pull"]) == pytest.approx(1.0)
        assert len(found["pull"]) == 2
        json.dumps(found)
    assert shares["linear"] == pytest.approx(right[50:].double().mean(0).tolist(), abs=1e-6)
    assert shares["bent"][0] > 0.9
    assert shares["bent"][1] > 0.6


def _trained(x, y, model):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def test_every_method_runs_and_its_details_can_be_kept():
    annotators = replace(ANNOTATORS, pool=100)
    task = annotators(100)
    found = {name: method(task, 100) for name, method in methods(annotators, Training(steps=70)).items()}
    assert next(iter(found)) == "main only"
    for name, result in found.items():
        assert 0 <= result.score <= 100
        assert math.isfinite(result.seconds)
        json.dumps(dict(result.details))
        assert ("pull" in result.details) == (name in {LINEAR, PERCEPTRON, OURS})


def test_perceptron_starts_alike():
    a, b = perceptron(3).state_dict(), perceptron(3).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_experiment():
    assert all(NONLINEAR.ours in cell.methods and LINEAR in cell.methods for cell in NONLINEAR.cells)
    # Stopping early is offered where training is long.
    assert [sum("stopped" in name for name in cell.methods) for cell in NONLINEAR.cells] == [3, 3, 0, 3]


def test_picture(tmp_path):
    details = {
        "kinds": ["main", "a", "b"],
        "share to right labels": [0.9, 0.5],
        "cross entropy": [0.0, 1.0, 2.0],
        "pull": [[1.0, 0.5, 0.0], [0.5, 0.2, 0.1]],
    }
    results = {0: Result(1.0, 1.0, details), 1: Result(2.0, 1.0, details)}
    plain = {0: Result(1.0, 1.0, {})}
    draw_pulls({"first": {"main only": plain}, "second": {"linear": results, "nonlinear": results}}, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 3 * picture.height / 2
    draw_pulls({"first": {"main only": plain}}, tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()
