"""Pictures are drawn of whatever the results hold."""

from pathlib import Path

import pytest

from auxilearn.experiments.harness._experiment import Cell, Experiment, Result, Table
from auxilearn.experiments.harness._pictures import draw, draw_weights, learned_weights

PNG = b"\x89PNG"


def results(scores: float, **details: object) -> dict[int, Result]:
    return {seed: Result(scores + seed % 2, 1.0, details) for seed in range(3)}


def experiment(figure=None) -> Experiment:
    methods = {name: lambda t, s: t for name in ("main only", "tuned", "ours", "ours, raw")}
    cells = tuple(Cell(name, "accuracy, %", lambda seed: seed, methods) for name in ("one", "two", "three"))
    return Experiment("pictured", "Pictured", "", cells, "ours", figure)


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    assert draw(experiment(lambda table, file: None), {}, tmp_path) == []


def test_differences_weights_and_a_figure_of_its_own(tmp_path: Path) -> None:
    def figure(table: Table, file: Path) -> None:
        file.write_bytes(PNG)

    table = {
        "one": {"main only": results(1.0), "tuned": results(9.0), "ours": results(5.0, weights=[1.0, 0.1])},
        "two": {"main only": results(1.0), "tuned": {0: Result(5.0, 1.0, {})}, "ours": results(1.0)},
        "three": {"tuned": results(0.0), "ours": results(2.0)},
    }
    files = draw(experiment(figure), table, tmp_path / "new")
    assert [file.name for file in files] == ["differences.png", "weights.png", "figure.png"]
    assert all(file.read_bytes().startswith(PNG) for file in files)


def test_weights_are_found_where_the_details_hold_them() -> None:
    table = {
        "one": {
            "main only": results(1.0),
            "tuned": results(1.0, weights=[1, 2], kinds=["main", "good"]),
            "ours": {**results(1.0, weights=[1.0, 3.0]), 7: Result(1.0, 1.0, {"weights": [1.0]})},
            "ours, raw": results(1.0, weights="heavy"),
        },
        "two": {"ours": results(1.0, weights=[float("nan"), 1.0]), "tuned": results(1.0, weights=[])},
    }
    found = learned_weights(experiment(), table)
    assert [(w.method, w.kinds, len(w.values)) for row in found for w in row] == [
        ("ours", ["loss", "loss"], 3),
        ("tuned", ["main", "good"], 3),
    ]
    assert [len(row) for row in learned_weights(experiment(), table, most=1)] == [1]


@pytest.mark.parametrize("count", [3, 100, 500])
def test_few_many_and_very_many_weights(tmp_path: Path, count: int) -> None:
    kinds = ["main", *(("good", "random")[k % 2] for k in range(count - 1))]
    weights = [1.0 + k for k in range(count)]
    found = learned_weights(experiment(), {"one": {"ours": results(1.0, weights=weights, kinds=kinds)}})
    draw_weights("Title", found, tmp_path / "weights.png")
    assert (tmp_path / "weights.png").read_bytes().startswith(PNG)
