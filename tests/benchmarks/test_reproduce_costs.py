"""The costs of the paper's experiments: what is timed, how hours come of it, and what failures look like."""

import json
import math
from pathlib import Path

import pytest
import reproduce_costs as costs
import torch
from reproduce_tasks import EVERY, SHAPES, STEPS

from auxilearn.experiments.reproduce._registry import REPRODUCTIONS
from auxilearn.experiments.reproduce.combined._methods import combined_methods


def test_every_reproduction_has_a_shape() -> None:
    assert set(SHAPES) == set(REPRODUCTIONS)


def test_every_method_that_is_not_measured_stands_for_measured_ones() -> None:
    methods = set(combined_methods(pixels=True))
    assert set(costs.AS) <= methods
    measured = methods - set(costs.AS)
    assert {like for likes in costs.AS.values() for like in likes} <= measured


def test_times_are_told_apart_by_run_and_by_what_is_due() -> None:
    clock = costs.Clock(torch.device("cpu"), [[1.0, 10.0, 3.0, 30.0], [2.0, 5.0, 2.0, 5.0]])
    assert clock.pairs(0) == [(20.0, 2.0), (5.0, 2.0)]
    assert clock.pairs(1) == [(2.0, 20.0), (2.0, 5.0)]
    assert clock.pairs(None) == [(6.5, 6.5), (3.5, 3.5)]


def test_a_clock_leaves_the_first_step_of_each_run_out() -> None:
    clock = costs.Clock(torch.device("cpu"))
    for phase, step in (("search", 1), ("search", 2), ("search", 3), ("train", 1), ("train", 2), ("train", 1)):
        clock(phase, step, 3)
    assert [len(times) for times in clock.runs] == [2, 1, 0]
    assert all(seconds >= 0 for times in clock.runs for seconds in times)


def test_hours_count_all_runs_and_what_is_due_now_and_then() -> None:
    cost = {"runs": [(1.0, 11.0), (2.0, 1.5)], "every": 10, "steps": 3600}
    assert costs.hours(cost) == pytest.approx(1 + 10 / 10 + 2)  # a due step is never cheaper


@pytest.mark.parametrize("method", ["main only", "AuxiLearn, linear", "ours, fast"])
def test_a_method_is_measured(method: str) -> None:
    found = costs.measure("shapenet", 0, method, "cpu", True, torch.get_num_threads())
    ((plain, due),) = found["runs"]
    assert plain > 0
    assert (due == plain) == (method == "main only")
    assert math.isfinite(found["peak"])  # in a process that had freed more before, nothing is added
    assert found["every"] == (4 if method != "ours, fast" else 10)
    assert found["steps"] == 3 * 160 // 4
    assert STEPS > 2 * EVERY


def test_a_failure_is_a_line_and_is_not_kept_as_a_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = costs.apart("shapenet", 0, "no such method", "cpu", True, 1, limit=120.0)
    assert found == {"error": "KeyError: 'no such method'"}
    file = tmp_path / "costs.json"
    title = costs.label("shapenet", 0)
    known = {"equal": {"runs": [[1.0, 1.0]], "every": 50, "steps": 7200, "peak": 8.0}, "MGDA": found}
    file.write_text(json.dumps({"cpu": {"costs": {title: known}}}))
    costs.main(["--page", "--only", "shapenet", "--json", str(file)])
    shown = capsys.readouterr().out
    lines = {line.split("  ")[0]: line.split() for line in shown.splitlines()}
    assert "KeyError:" in lines["MGDA"]
    assert lines["equal"][-1] == "2.00"
    assert lines["random search"][-4:] == ["as", "6", "×", "equal"]
    assert "12.00" in lines["random search"]
    assert "GCS" not in lines  # nothing is known of what it stands for


def test_the_page_of_an_empty_file_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    costs.main(["--page", "--only", "shapenet", "--json", str(tmp_path / "none.json")])
    assert "steps a run" not in capsys.readouterr().out
