"""Verdicts from known results: what speaks for ours is adjusted, what speaks against it is not."""

from functools import partial

import pytest

from auxilearn.experiments.harness._compare import Comparison, compare, comparisons, summary
from auxilearn.experiments.harness._experiment import Cell, Experiment, Result
from tiny_experiment import METHODS, draw, task

NOISE = (0.3, -0.2, 0.1, -0.4, 0.2, 0.0, -0.1, 0.1, 0.25, -0.25)
NAMES = ("main only", "equal, raw", "tuned", "oracle", "ours, without the gate", "ours")
CELL = Cell("cell", "accuracy, %", partial(task, 0.0), {name: partial(draw, 1.0) for name in NAMES})


def results(means: dict[str, float], seeds: int = 10, seconds: float = 2.0) -> dict[str, dict[int, Result]]:
    # Every method has noise of its own: the differences are not constant.
    return {
        name: {s: Result(mean + NOISE[(s + 3 * k) % 10], seconds * (1 + k), {}) for s in range(seeds)}
        for k, (name, mean) in enumerate(means.items())
    }


def judged(**means: float) -> Comparison:
    names = {"main": "main only", "equal": "equal, raw", "gateless": "ours, without the gate"}
    return compare(CELL, results({names.get(name, name): mean for name, mean in means.items()}), "ours")


def test_each_method_is_compared_seed_by_seed() -> None:
    found = judged(main=60.0, equal=62.0, ours=65.0)
    main, equal, ours = found.lines
    assert main.difference is not None
    assert equal.difference is not None
    assert main.difference.mean == pytest.approx(5.0)
    assert equal.holm == equal.difference.p  # the larger one is not multiplied
    assert main.holm is not None
    assert main.holm <= 2 * main.difference.p + 1e-12
    assert ours.difference is ours.holm is None
    assert [line.compute for line in found.lines] == [1.0, 2.0, 3.0]
    assert found.absent == ("tuned", "oracle", "ours, without the gate")


def test_oracles_and_variants_are_no_baselines() -> None:
    found = judged(main=60.0, oracle=90.0, gateless=80.0, ours=65.0)
    assert [line.method for line in found.baselines] == ["main only"]
    assert found.wins
    assert next(line for line in found.lines if line.method == "oracle").holm is None


def test_ours_wins_within_one_standard_error_of_the_best() -> None:
    assert judged(main=60.0, tuned=65.05, ours=65.0).wins
    lost = judged(main=60.0, tuned=65.8, ours=65.0)
    assert lost.wins is False
    assert lost.best is not None
    assert lost.best.method == "tuned"
    assert lost.below == ["tuned"]
    assert lost.above == ["main only"]
    assert lost.harms is False
    assert "more than one s.e. below the best baseline (tuned). It is below tuned" in lost.verdict()
    assert "above 1 of 2 baselines" in lost.verdict()


def test_harm_is_being_below_a_basic_method() -> None:
    found = judged(main=67.0, equal=60.0, ours=65.0)
    assert found.harms
    gain = found.gain_on_basic()
    assert gain is not None
    assert gain.mean == pytest.approx(-2.0)
    assert judged(tuned=67.0, ours=65.0).harms is None


def test_one_seed_judges_nothing() -> None:
    found = compare(CELL, results({"main only": 60.0, "ours": 65.0}, seeds=1), "ours")
    assert found.wins is None
    assert "run more" in found.verdict()
    assert summary([found]).cells == 0
    assert "No cell can be judged" in str(summary([found]))
    assert "no baseline" in compare(CELL, results({"ours": 65.0}), "ours").verdict()


def test_missing_seeds_are_left_out_of_their_pair_only() -> None:
    table = results({"main only": 60.0, "tuned": 62.0, "ours": 65.0})
    table["tuned"] = {seed: result for seed, result in table["tuned"].items() if seed < 4}
    table["tuned"][77] = Result(0.0, 1.0, {})
    found = {line.method: line for line in compare(CELL, table, "ours").lines}
    assert found["tuned"].seeds == 5
    assert found["tuned"].difference is not None
    assert found["tuned"].difference.mean == pytest.approx(
        sum(table["ours"][s].score - table["tuned"][s].score for s in range(4)) / 4
    )
    table["tuned"] = {77: Result(0.0, 1.0, {})}
    alone = next(line for line in compare(CELL, table, "ours").lines if line.method == "tuned")
    assert alone.difference is alone.compute is None


def test_tests_that_disagree_are_marked() -> None:
    # One far seed: Student's t is small, though every sign is the same.
    differences = [0.1] * 9 + [20.0]
    table = {
        "main only": {s: Result(0.0, 0.0, {}) for s in range(10)},
        "ours": {s: Result(d, 0.0, {}) for s, d in enumerate(differences)},
    }
    line = compare(CELL, table, "ours").lines[0]
    assert line.doubtful
    assert line.compute is None


def test_cells_are_counted() -> None:
    found = [judged(main=60.0, ours=65.0), judged(main=67.0, ours=65.0), judged(main=60.0, tuned=66.0, ours=65.0)]
    total = summary(found)
    assert (total.cells, total.wins, total.harmed, total.above, total.below, total.total) == (3, 1, ("cell",), 2, 2, 4)
    assert "1 of 3 cells (33%)" in str(total)
    assert "in 1 (cell)" in str(total)


def test_cells_without_ours_are_left_out() -> None:
    experiment = Experiment("e", "", "", (CELL, Cell("second", "", CELL.task, METHODS)), "ours")
    assert comparisons(experiment, {"second": results({"main only": 1.0})}) == []
    assert [c.ours for c in comparisons(experiment, {"cell": results({"main only": 1.0, "tuned": 2.0})}, "tuned")] == [
        "tuned"
    ]
