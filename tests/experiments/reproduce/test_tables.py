"""Tables hold what was measured here and what others state, and never mix the two."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from auxilearn.experiments.reproduce._tables import grid, markdown_table, terminal_tables, write_csv
from tiny_reproduction import CELL

MEASURED = {
    "main only": {0: {"accuracy": 60.0, "error": 40.0}, 1: {"accuracy": 64.0, "error": 36.0}},
    "ours": {0: {"accuracy": 70.0, "error": 30.0}},
}


def test_rows_are_ours_then_theirs_alone() -> None:
    words = grid(CELL, MEASURED, absent="needs the data")
    assert words.headings == ["method", "accuracy, %", "Nobody, 2021", "error, %"]
    rows = {row[0]: row[1:] for row in words.rows}
    assert rows["main only"] == ["62.0 ± 2.0", "70 ± 0.5", "38.0 ± 2.0"]
    assert rows["ours"] == ["70.0", "", "30.0"]
    assert rows["equal"] == ["needs the data", "", "needs the data"]
    assert rows["Magic"] == ["", "99", ""]
    assert "STL" not in rows


def test_delta_is_the_mean_change_against_each_task_alone() -> None:
    cell = replace(CELL, single={"accuracy": "main only", "error": "equal"})
    assert "Δ, %" not in grid(cell, MEASURED).headings  # `equal` was not measured
    measured = {**MEASURED, "equal": {0: {"accuracy": 1.0, "error": 20.0}}}
    words = grid(cell, measured)
    assert words.headings[-1] == "Δ, %"
    # Accuracy 70 against 62, error 30 against 20: (8 / 62 - 10 / 20) / 2.
    assert {row[0]: row[-1] for row in words.rows}["ours"] == f"{100 * (8 / 62 - 0.5) / 2:.1f}"


def test_a_narrow_terminal_gets_several_tables(tmp_path: Path) -> None:
    (wide,) = terminal_tables(CELL, MEASURED, width=100, only=["main only", "ours"])
    assert wide.row_count == 3  # and a row that only others have
    first, second = terminal_tables(CELL, MEASURED, width=42, only=["main only", "ours"])
    assert [str(column.header) for column in first.columns] == ["method", "accuracy, %", "Nobody, 2021"]
    assert [str(column.header) for column in second.columns] == ["method", "error, %"]
    assert second.row_count == 2
    with (tmp_path / "out.txt").open("w") as stream:
        console = Console(width=42, record=True, file=stream)
        console.print(first)
    assert "…" not in console.export_text()


def test_the_same_words_stand_in_markdown_on_the_terminal_and_one_line_a_run_in_csv(tmp_path: Path) -> None:
    lines = markdown_table(CELL, MEASURED).splitlines()
    assert lines[1] == "| --- | ---: | ---: | ---: |"
    assert "| main only | 62.0 ± 2.0 | 70 ± 0.5 | 38.0 ± 2.0 |" in lines
    console = Console(width=120, record=True, file=(tmp_path / "out.txt").open("w"))
    for table in terminal_tables(CELL, MEASURED, width=120):
        console.print(table)
    shown = console.export_text()
    console.file.close()
    assert "digits, tiny (2 seeds)" in shown
    assert "62.0 ± 2.0" in shown
    write_csv(tmp_path / "runs.csv", CELL, MEASURED)
    assert (tmp_path / "runs.csv").read_text().splitlines() == [
        "method,seed,accuracy,error",
        "main only,0,60.0,40.0",
        "main only,1,64.0,36.0",
        "ours,0,70.0,30.0",
    ]
