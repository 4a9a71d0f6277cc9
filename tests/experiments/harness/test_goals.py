"""Goals are measured from comparisons alone."""

from auxilearn.experiments.harness._compare import compare
from auxilearn.experiments.harness._experiment import Cell, Result
from auxilearn.experiments.harness._goals import GOALS, goals_table

NAMES = ("main only", "random search", "ours")
CELL = Cell("a", "accuracy, %", lambda seed: seed, {name: lambda t, s: t for name in NAMES})
TABLE = {
    "main only": {s: Result(60.0 + s % 2, 2.0, {}) for s in range(6)},
    "ours": {s: Result(75.0 + s % 3, 5.0, {}) for s in range(6)},
}


def test_goals_are_measured_from_comparisons() -> None:
    assert goals_table({}).count("not measured yet") == len(GOALS)
    text = goals_table({"annotators": [compare(CELL, TABLE, "ours")]})
    assert "1 of 1 cells | yes |" in text
    assert "below in 0 of 1 cells | yes |" in text
    assert "+15.5 ± 1.1 in the cell of the smallest gain | yes |" in text
    worse = {"main only": TABLE["ours"], "ours": TABLE["main only"]}
    assert goals_table({"annotators": [compare(CELL, worse, "ours")]}).count("**no**") == 3


def test_usefulness_is_ranked_against_harmful_losses() -> None:
    kinds = ["main", "attribute", "misleading", "noise"]
    details = {"kinds": kinds, "usefulness": [2.0, -1.0, 3.0], "auc": 0.5}
    results = {"ours": {s: Result(75.0 + s % 3, 5.0, details) for s in range(6)}}
    text = goals_table({"harmful": [compare(CELL, results, "ours")]})
    assert "harmful, a: 1.00 (0.50 with useless ones among the others) | yes |" in text
    useless = {**details, "kinds": ["main", "attribute", "noise", "noise"]}
    results = {"ours": {s: Result(75.0 + s % 3, 5.0, useless) for s in range(6)}}
    text = goals_table({"harmful": [compare(CELL, results, "ours")]})
    assert "harmful, a: 0.50 | **no** |" in text


def test_random_search_is_compared() -> None:
    table = {**TABLE, "random search": TABLE["main only"]}
    text = goals_table({"annotators": [compare(CELL, table, "ours")]})
    assert "annotators, a: +15.5 ± 1.1 | yes |" in text


def test_what_was_tried_stands_under_what_is_not_met() -> None:
    worse = {"main only": TABLE["ours"], "ours": TABLE["main only"]}
    text = goals_table({"annotators": [compare(CELL, worse, "ours")]})
    assert text.count("Tried where it is not met") == 1
    assert "Outer steps of 0.1" in text.partition("Tried where it is not met")[2]
    assert "Tried" not in goals_table({"annotators": [compare(CELL, TABLE, "ours")]})


def test_weights_fall_with_the_noise() -> None:
    def table(weights: list[float]) -> dict[str, dict[int, Result]]:
        details = {"weights": [1.0, *weights], "kinds": ["main", *["source"] * len(weights)]}
        return {"ours": {s: Result(75.0 + s % 3, 5.0, details) for s in range(6)}}

    text = goals_table({"label-noise": [compare(CELL, table([3.0, 2.0, 0.5, 0.1]), "ours")]})
    assert "at most −0.9 | a: -1.000, at most -1.000 | yes |" in text
    text = goals_table({"label-noise": [compare(CELL, table([3.0, 0.1, 0.5, 2.0]), "ours")]})
    assert "a: -0.200, at most -0.200 | **no** |" in text
