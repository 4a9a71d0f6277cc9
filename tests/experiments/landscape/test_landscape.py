"""The two-parameter regression: its quadratic forms, its descent, and its pictures."""

import json
import statistics

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from auxilearn.experiments.harness._experiment import Result
from auxilearn.experiments.landscape._experiment import LANDSCAPE, Regression, train
from auxilearn.experiments.landscape._pictures import _read, _solve, draw_landscape

SEEDS = range(100, 104)


@pytest.fixture(scope="module")
def learned():
    return {seed: train(Regression.draw(seed), seed, "learned") for seed in SEEDS}


def test_quadratic_form_is_the_loss():
    part = Regression.draw(0).main
    a, b, c = part.quadratic()
    for w in torch.randn(5, 2, generator=torch.Generator().manual_seed(0)):
        assert_close(w @ a @ w - 2 * b @ w + c, part.loss(w), rtol=1e-4, atol=1e-4)


def test_tasks_are_what_they_say():
    task = Regression.draw(0)
    assert_close(_solve(task.helpful.quadratic()), task.truth, rtol=0.0, atol=0.1)
    assert float((_solve(task.harmful.quadratic()) - task.truth).norm()) == pytest.approx(3.5, abs=0.15)
    assert torch.equal(task.main.x, Regression.draw(0).main.x)


def test_learned_weights_end_nearer_the_truth_than_fixed_ones(learned):
    fixed = {
        rule: statistics.fmean(train(Regression.draw(seed), seed, rule).score for seed in SEEDS)
        for rule in ("main only", "equal")
    }
    assert statistics.fmean(result.score for result in learned.values()) > max(fixed.values()) + 0.3


def test_helpful_weight_grows_and_harmful_weight_falls_behind(learned):
    for result in learned.values():
        helpful, harmful = result.details["course"][-1]
        assert result.details["course"][0] == [1.0, 1.0]
        assert helpful > 2.5
        assert harmful < helpful / 2


def test_sgd_ends_at_the_minimum_of_the_combined_loss(learned):
    for result in learned.values():
        course = _read(result.details)
        assert_close(_solve(course.combined(course.course[-1])), course.path[-1], rtol=0.0, atol=0.1)


def test_oracle_uses_the_helpful_task():
    oracle = train(Regression.draw(100), 100, "oracle, helpful only", steps=120)
    assert oracle.details["course"][-1] == [1.0, 0.0]


def test_pictures(learned, tmp_path):
    result = learned[100]
    json.dumps(dict(result.details))
    short = {
        key: result.details[key][::20] if key in {"path", "course"} else result.details[key] for key in result.details
    }
    table = {"cell": {"equal": {}, "learned": {0: Result(1.0, 1.0, short)}}}
    draw_landscape(table, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.width > 2 * picture.height
    with Image.open(tmp_path / "figure.gif") as film:
        assert film.n_frames >= len(short["path"])


def test_no_picture_without_a_learned_run(tmp_path):
    draw_landscape({"cell": {"equal": {}}}, tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


def test_experiment():
    (cell,) = LANDSCAPE.cells
    result = cell.methods["main only"](cell.task(100), 100)
    assert result.score < 0
    assert LANDSCAPE.ours in cell.methods
