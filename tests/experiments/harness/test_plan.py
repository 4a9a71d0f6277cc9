"""Which jobs run, in which order, and for how long."""

from pathlib import Path

import pytest

from auxilearn.errors import InputError
from auxilearn.experiments.harness._experiment import Cell, Experiment, Result
from auxilearn.experiments.harness._plan import basic_methods, chosen_cells, chosen_methods, plain, plan
from auxilearn.experiments.harness._store import Job, Store
from tiny_experiment import EXPERIMENT, METHODS, PLACE

CELLS = [cell.name for cell in EXPERIMENT.cells]


def test_seeds_finish_evenly_and_the_longest_jobs_of_a_seed_come_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seconds, method in enumerate(["main only", "ours"], 1):
        store.put(Job(PLACE, "second", method, 99), Result(1.0, float(seconds), {}))
    store.put(Job(PLACE, "second", "ours", 0), Result(1.0, 3.0, {}))
    todo = plan(PLACE, EXPERIMENT, store, ["main only", "ours", "equal, raw"], ["second"], [0, 1])
    assert [(job.method, job.seed) for job in todo.finished] == [("ours", 0)]
    assert [(job.seed, job.method) for job in todo.missing] == [
        (0, "equal, raw"),  # nobody knows how long it takes
        (0, "main only"),
        (1, "equal, raw"),
        (1, "ours"),
        (1, "main only"),
    ]
    assert todo.costs() == [pytest.approx(4.5 / 3), 1.0, pytest.approx(4.5 / 3), 2.5, 1.0]
    assert todo.estimate(2) == "about 4 s (2 jobs guessed: none of their seeds was ever run here)"


def test_a_plan_without_known_times_says_so(tmp_path: Path) -> None:
    todo = plan(PLACE, EXPERIMENT, Store(tmp_path), ["ours"], CELLS, [0])
    assert len(todo.missing) == 2
    assert todo.estimate(1).startswith("time unknown")
    assert todo.costs() == [1.0, 1.0]


def test_names_may_hold_commas() -> None:
    assert chosen_methods(EXPERIMENT, ["main only, equal, raw,ours", "ours"]) == ["main only", "equal, raw", "ours"]
    assert chosen_methods(EXPERIMENT, []) == ["main only", "equal, raw", "ours", "oracle"]
    with pytest.raises(InputError, match=r"There is no `our`. Did you mean `ours`"):
        chosen_methods(EXPERIMENT, ["main only,our"])


def test_cells_are_found_by_parts_of_their_names() -> None:
    assert chosen_cells(EXPERIMENT, []) == CELLS
    assert chosen_cells(EXPERIMENT, ["5 LABELS"]) == [CELLS[0]]
    with pytest.raises(InputError, match="No cell's name holds `thrid`"):
        chosen_cells(EXPERIMENT, ["thrid"])


def test_a_first_look_takes_ours_and_the_basic_methods() -> None:
    assert basic_methods(EXPERIMENT) == ["ours", "main only", "equal, raw"]
    other = Cell("cell", "", EXPERIMENT.cells[0].task, {"clean only": METHODS["ours"], "ours": METHODS["ours"]})
    assert basic_methods(Experiment("e", "", "", (other,), "ours")) == ["ours", "clean only"]
    assert plain(other) == "clean only"
