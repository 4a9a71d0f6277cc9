"""Runs are kept whole, found again while nothing that matters changed, and refused with reasons."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from auxilearn.errors import InputError
from auxilearn.experiments.reproduce import _jobs
from auxilearn.experiments.reproduce._jobs import Bench, Run, Shelf, carry_out, runs_of
from auxilearn.experiments.reproduce._place import Place, silent
from tiny_reproduction import CELL, TINY, data

CPU = torch.device("cpu")


def test_runs_go_seed_by_seed_and_names_are_looked_up() -> None:
    runs = runs_of(TINY, cells=(), methods=("equal", "main only"), seeds=None, budget="paper")
    assert [(run.method, run.seed) for run in runs] == [
        ("main only", 0),
        ("equal", 0),
        ("main only", 1),
        ("equal", 1),
    ]
    listed = runs_of(TINY, cells=(), methods=("ours, fast,AuxiLearn, nonlinear",), seeds=(0,), budget="smoke")
    assert [run.method for run in listed] == ["AuxiLearn, nonlinear", "ours, fast"]
    assert len(runs_of(TINY, cells=("digits",), methods=(), seeds=(7,), budget="smoke")) == len(CELL.methods)
    with pytest.raises(InputError, match=r"There is no `equals`\. Did you mean `equal`\?"):
        runs_of(TINY, cells=(), methods=("equals",), seeds=None, budget="smoke")
    with pytest.raises(InputError, match=r"None has 'faces' in its name\. There are: `digits, tiny`"):
        runs_of(TINY, cells=("faces",), methods=(), seeds=None, budget="smoke")


def test_a_result_holds_until_its_code_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, run = Shelf(tmp_path, "smoke"), Run(CELL, "equal", 3)
    assert shelf.metrics(TINY, run) is None
    carry_out(TINY, run, shelf, Bench(data(tmp_path / "data"), CPU), silent)
    found = shelf.metrics(TINY, run)
    assert found is not None
    assert found["accuracy"] + found["error"] == pytest.approx(100)
    folder = shelf.place(TINY, run)
    assert {file.name for file in folder.iterdir()} == {"curve.csv", "model.pt", "result.json"}
    kept = Place(folder, 3).read_result()
    assert kept is not None
    assert kept["settings"]["lr"] == "0.003"
    assert kept["details"]["weights"].keys() == {"class", "odd", "ink"}
    assert Shelf(tmp_path, "paper").metrics(TINY, run) is None
    monkeypatch.setattr(_jobs, "code_of", lambda module: "changed")
    monkeypatch.setattr(_jobs, "REPRODUCTIONS", {"tiny": "somewhere:ELSE"})
    assert shelf.metrics(TINY, run) is None
    assert Shelf(tmp_path, "smoke", trust=True).metrics(TINY, run) == found


def test_the_same_run_twice_measures_the_same(tmp_path: Path) -> None:
    run, bench = Run(CELL, "ours, fast", 0), Bench(data(tmp_path / "data"), CPU)
    found = []
    for name in ("a", "b"):
        torch.rand(3)
        carry_out(TINY, run, Shelf(tmp_path / name, "smoke"), bench, silent)
        found.append(Shelf(tmp_path / name, "smoke").metrics(TINY, run))
    assert found[0] == found[1]


def test_data_that_are_missing_are_named_with_their_source(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"`digits.txt` is not there. Get it from https://example.org/digits"):
        Bench(tmp_path / "empty", CPU).folder(TINY)
    with pytest.raises(InputError, match="auxilearn make-miniature tiny DIR"):
        Bench(None, CPU).folder(TINY)


def test_a_metric_that_is_not_finite_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    cell = replace(CELL, measure=lambda task, model: {"accuracy": float("nan"), "error": 1.0})
    run, shelf = Run(cell, "main only", 0), Shelf(tmp_path, "smoke")
    with pytest.raises(InputError, match="`accuracy` is nan"):
        carry_out(TINY, run, shelf, Bench(data(tmp_path / "data"), CPU), silent)
    assert not Place(shelf.place(TINY, run), 0).result.exists()
