"""Tables in the terminal and in Markdown say the same."""

from rich.console import Console

from auxilearn.experiments.harness._compare import compare
from auxilearn.experiments.harness._experiment import Cell, Result
from auxilearn.experiments.harness._tables import cell_markdown, markdown_table, terminal_table

CELL = Cell(
    "a | b", "accuracy, %", lambda seed: seed, {name: lambda t, s: t for name in ("main only", "tuned", "ours")}
)
TABLE = {
    "main only": {s: Result(60.0 + s % 2, 2.0, {}) for s in range(6)},
    "ours": {s: Result(75.0 + s % 3, 5.0, {}) for s in range(6)},
}


def test_markdown_has_a_row_for_each_method() -> None:
    lines = markdown_table(compare(CELL, TABLE, "ours")).splitlines()
    assert lines[0] == "| method | accuracy, % | ours − it | p (Holm) | compute |"
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: |"
    assert lines[2].startswith("| main only | 60.5 ± 0.2 | +15.5 ± ")
    assert lines[2].endswith("| < 0.001 | 1.0 × |")
    assert lines[3] == "| **ours** | **76.0 ± 0.4** |  |  | **2.5 ×** |"


def test_a_cell_says_what_is_absent_and_unfinished() -> None:
    text = cell_markdown(compare(CELL, TABLE, "ours"))
    assert text.startswith("### a | b\n\n6 paired seeds.")
    assert "Without results: tuned." in text
    text = cell_markdown(compare(CELL, {**TABLE, "tuned": {0: Result(1.0, 1.0, {})}}, "ours"))
    assert "1 to 6 seeds: not finished" in text
    assert "| 1.0 ± ∞ |" in text
    assert text.count("| seeds |") == 1


def test_the_terminal_shows_the_same(tmp_path) -> None:
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        console = Console(width=120, record=True, file=file)
        console.print(terminal_table(compare(CELL, TABLE, "ours")))
    text = console.export_text()
    assert "60.5 ± 0.2" in text
    assert "a | b (6 paired seeds)" in text


def test_digits_follow_the_standard_errors() -> None:
    small = {
        "main only": {s: Result(0.8 + 0.001 * (s % 2), 2.0, {}) for s in range(6)},
        "ours": {s: Result(0.8 + 0.002 * (s % 2), 2.0, {}) for s in range(6)},
    }
    assert "0.8005 ± 0.0002" in markdown_table(compare(CELL, small, "ours"))
    same = {name: {s: Result(50.0, 1.0, {}) for s in range(2)} for name in ("main only", "ours")}
    assert "| 50.0 ± 0.0 | 0 | 1.000 |" in markdown_table(compare(CELL, same, "ours"))
