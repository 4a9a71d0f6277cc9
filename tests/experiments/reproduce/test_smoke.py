"""Every reproduction from its miniature to its table, as a newcomer types it; the user's files stay as they are."""

import csv
import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from auxilearn.cli import app
from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce._registry import REPRODUCTIONS, reproduction
from auxilearn.experiments.reproduce._tables import grid

# Beside the main loss alone and ours one of each kind: `auxilearn reproduce NAME --budget smoke` runs all, and every
# method has tests of its own.
KINDS = ("MGDA", "AuxiLearn, nonlinear", "AuxiLearn, ConvNet", "MAXL")


def tree(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_a_smoke_run_goes_from_the_miniature_to_the_table(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    invoke = CliRunner().invoke
    made = invoke(app, ["make-miniature", name, str(tmp_path / "data")])
    assert made.exit_code == 0, made.output
    before = tree(tmp_path / "data")
    chosen = reproduction(name)
    methods = dict.fromkeys(m for cell in chosen.cells for m in cell.methods if m in {cell.plain, cell.ours, *KINDS})
    words = ["reproduce", name, "--data", str(tmp_path / "data"), "--budget", "smoke", "--out", str(tmp_path / "out")]
    found = invoke(app, [*words, "--device", "cpu", *(word for m in methods for word in ("--method", m))])
    assert found.exit_code == 0, found.output
    assert tree(tmp_path / "data") == before
    assert "Traceback" not in found.output
    for cell in chosen.cells:
        runs = [m for m in methods if m in cell.methods]
        results = list((tmp_path / "out" / name / "smoke").rglob("result.json"))
        kept = [r for file in results if (r := Place(file.parent, 0).read_result()) and r["cell"] == cell.name]
        assert sorted(r["method"] for r in kept) == sorted(runs)
        for result in kept:
            assert {metric.name for metric in cell.metrics} <= result["metrics"].keys()
        plain = next(file for file in results if (Place(file.parent, 0).read_result() or {})["method"] == cell.plain)
        with (plain.parent / "curve.csv").open(newline="") as stream:
            points = list(csv.DictReader(stream))
        main = next(key for key in points[0] if key not in ("phase", "step"))
        assert float(points[-1][main]) < float(points[0][main]), points


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_a_reproduction_does_not_contradict_itself(name: str) -> None:
    chosen = reproduction(name)
    assert chosen.name == name
    assert chosen.files
    assert len({cell.name for cell in chosen.cells}) == len(chosen.cells)
    for cell in chosen.cells:
        names = {metric.name for metric in cell.metrics}
        assert next(iter(cell.methods)) == cell.plain
        assert cell.ours in cell.methods
        assert cell.same.keys() <= cell.methods.keys()
        assert set(cell.single) <= names
        assert set(cell.single.values()) <= cell.methods.keys()
        for source in cell.literature:
            assert all(row.keys() <= names for row in source.rows.values())
            # Every row that a method is said to have is there.
            assert any(cell.same.get(method, method) in source.rows for method in cell.methods)
        headings, rows = grid(cell, {}, absent="needs the data")
        assert len({row[0] for row in rows}) == len(rows)
        assert all(len(row) == len(headings) for row in rows)
        assert len(cell.recipe.rows("paper")) == len(cell.recipe.rows("smoke")) > 10
