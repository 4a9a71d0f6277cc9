"""The page of performance is what the measurements render to, and says what is missing."""

from dataclasses import replace
from pathlib import Path

import pytest
from benchmark import Machine, Ratio, Result, Table
from catalogue import ENTRIES, HERE
from performance import MEASURED, PAGE, merged, page, read, summary, text

TABLE = Table(
    "Time of a thing",
    "nothing",
    {"what": "", "ms": ".1f", "ratio": ".2f"},
    (("a | b", 1.25, 1.0), ("other", float("inf"), None)),
    ("A note.",),
    (Ratio("a thing", 1.25, "nothing", goal=1.05), Ratio("an error", 1e-12, "the truth")),
)
MACHINE = Machine("cpu", "some processor", 2, 1, "2.14.1", "2026-11-26", (0.1, 1.2))
GOOD = Result("overhead", "cpu", True, 12.3, (TABLE,), MACHINE)
BAD = Result("peak", "cpu", True, 1.0, error="RuntimeError: out of `memory`")


def test_the_page_is_what_the_measurements_render_to() -> None:
    assert PAGE.read_text("utf-8") == page(read(MEASURED)), "write it again: python benchmarks/run.py --page"
    assert MEASURED.read_text("utf-8") == text(read(MEASURED))


def test_every_benchmark_is_in_the_catalogue_and_says_what_it_measures() -> None:
    files = {path.name for path in HERE.glob("bench_*.py")}
    assert files == {entry.file for entry in ENTRIES if entry.file.startswith("bench_")}
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)
    for name in files:
        about, reading = next(entry for entry in ENTRIES if entry.file == name).texts()
        assert about
        assert reading


def test_a_table_shows_its_ratios_and_whether_an_aim_is_met() -> None:
    shown = page([GOOD])
    assert "**Time of a thing**, against nothing:" in shown
    assert "| what | ms | ratio |\n|---|---:|---:|\n| a \\| b | 1.2 | 1.00 |\n| other | inf |  |" in shown
    assert "A note." in shown
    assert "| overhead | a thing | 1.25 | nothing | ≤ 1.05: not met |" in shown
    assert "| overhead | an error | 1.0e-12 | the truth |  |" in shown
    assert "`python benchmarks/bench_overhead.py --quick`, some processor, 2 cores, one thread, torch 2.14.1" in shown
    assert "load 0.1 and 1.2" in shown


def test_an_aim_is_not_judged_on_a_busy_machine() -> None:
    shown = page([replace(GOOD, machine=replace(MACHINE, load=(4.0, 4.0)))])
    assert "| ≤ 1.05: not judged |" in shown
    assert "The machine was busy" in shown
    assert "busy" not in page([GOOD])


def test_a_benchmark_that_failed_is_said_to_have_failed() -> None:
    shown = page([GOOD, BAD])
    assert "| peak | failed |  | RuntimeError: out of `memory` |  |" in shown
    assert "**Failed**, so that nothing is known: `RuntimeError: out of 'memory'`" in shown
    assert "Failed: peak." in shown
    assert "Failed:" not in page([GOOD])


def test_what_was_not_measured_is_named() -> None:
    shown = page([GOOD])
    assert "Not measured: `python benchmarks/run.py --only memory` does it." in shown
    assert "On a GPU: overhead, compiled, peak" in shown
    assert "In full: overhead." in shown
    everywhere = [Result(e.name, "cuda", False, 1.0, (TABLE,), MACHINE) for e in ENTRIES if e.cuda]
    assert "On a GPU:" not in page(everywhere)


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    assert read(file) == []
    file.write_text(text([GOOD, BAD]), "utf-8")
    good, bad = read(file)
    assert bad == BAD
    assert good.machine == MACHINE
    assert good.tables[0].ratios == TABLE.ratios
    assert good.tables[0].rows == (("a | b", 1.25, 1.0), ("other", "inf", None))
    assert text([good, bad]) == file.read_text("utf-8")


def test_a_new_result_replaces_that_of_the_same_device_only() -> None:
    gpu = Result("overhead", "cuda", True, 1.0, (TABLE,), MACHINE)
    assert merged([BAD, GOOD], [gpu]) == [GOOD, gpu, BAD]
    again = Result("overhead", "cpu", False, 2.0, (TABLE,), MACHINE)
    assert merged([GOOD, gpu], [again]) == [again, gpu]
    assert summary([gpu])[0][0] == "overhead, cuda"


def test_a_ratio_that_is_not_finite_and_a_ragged_row_are_refused() -> None:
    with pytest.raises(ValueError, match="a thing to nothing is nan"):
        Ratio("a thing", float("nan"), "nothing")
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table("t", "", {"a": "", "b": ""}, (("x",),))
