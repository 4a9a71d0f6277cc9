"""Tables, intervals, verdicts and pictures from known results."""

import dataclasses
from pathlib import Path

import pytest
from rich.console import Console

from auxilearn.experiments._plot import plot_weights
from auxilearn.experiments._report import rows, table, verdict
from auxilearn.experiments._study import EQUAL, LEARNED, MAIN, OURS, RAW, Outcome, Part
from auxilearn.experiments._tasks import Suite
from auxilearn.experiments.harness._statistics import paired, standard_error

OUTCOME = Outcome(
    seeds=[0, 1, 2],
    accuracy={
        MAIN: [60.0, 62.0, 61.0],
        RAW: [50.0, 52.0, 54.0],
        EQUAL: [65.0, 66.0, 67.0],
        "normalised × 3": [70.0, 71.0, 70.0],
        LEARNED: [80.0, 82.0, 81.0],
        OURS: [80.0, 82.0, 81.0],
    },
    chosen=[LEARNED, LEARNED, LEARNED],
    t={EQUAL: [1.0, 2.0, 3.0], LEARNED: [5.0, 6.0, 7.0]},
    path=[[[1.0, 1.0], [2.0, 0.5]]] * 3,
)


def test_intervals_are_those_of_student() -> None:
    difference = paired([3.0, 5.0, 4.0], [1.0, 2.0, 3.0])
    assert difference.mean == 2.0
    assert difference.half == pytest.approx(4.302653 * 1.0 / 3**0.5)  # t for 2 degrees of freedom, deviation 1
    assert not difference.beyond
    assert paired([1.0], [0.0]).half == float("inf")
    assert standard_error([1.0]) == float("inf")


def test_the_best_scaled_variant_stands_for_all() -> None:
    found = {row.name: row for row in rows(OUTCOME)}
    assert "normalised × 3" not in found
    tuned = next(row for name, row in found.items() if "tuned" in name)
    assert tuned.mean == pytest.approx(70.33, abs=0.01)
    assert found[OURS].to_equal.mean == pytest.approx(10.67, abs=0.01)
    assert found[MAIN].to_main.mean == 0.0


def test_the_table_shows_every_row() -> None:
    console = Console(width=120, record=True, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115
    console.print(table("Part", OUTCOME))
    console.file.close()
    text = console.export_text()
    assert all(row.name.split(":")[0] in text for row in rows(OUTCOME))
    assert "81.0 ± 0.6" in text


def test_the_verdict_counts_the_rows_beaten() -> None:
    assert "above 4 of 4 other rows." in verdict(OUTCOME)
    tied = dataclasses.replace(OUTCOME, accuracy={**OUTCOME.accuracy, OURS: [60.0, 83.0, 70.0]})
    assert "not above: main only" in verdict(tied)


def test_a_fallback_is_said() -> None:
    fallen = dataclasses.replace(OUTCOME, chosen=[MAIN] * 3)
    assert "fell back to main only in every seed" in verdict(fallen)


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "weights.png"
    plot_weights(Part("Two", Suite(good=1, noise=1)), OUTCOME, file)
    assert file.read_bytes().startswith(b"\x89PNG")
