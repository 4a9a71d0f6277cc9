"""The demo from end to end, on a shortened schedule: files, resumption, the command line."""

import dataclasses
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from auxilearn.cli import app
from auxilearn.experiments import _runner, demo
from auxilearn.experiments._training import Schedule

SHORT = tuple(dataclasses.replace(part, schedule=Schedule(steps=30, batch=8), pool=50) for part in demo.PARTS)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PARTS", SHORT)


@pytest.mark.usefixtures("short")
def test_a_run_writes_results_and_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(quiet=True)
    first = demo.run(dataset="digits", seeds=[100, 101], workers=2, out=tmp_path, console=console)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [len(part["seeds"]) for part in results["parts"]] == [2, 2]
    assert (tmp_path / "weights-1.png").exists()
    assert (tmp_path / "weights-2.png").exists()
    pieces = sorted((tmp_path / "cache").glob("*.json"))
    assert len(pieces) == 4
    assert not list((tmp_path / "cache").glob("*.partial"))

    # With every piece there, no process is started, and the results are the same.
    monkeypatch.setattr(_runner, "ProcessPoolExecutor", None)
    again = demo.run(dataset="digits", seeds=[100, 101], workers=2, out=tmp_path, console=console)
    assert again == first


@pytest.mark.usefixtures("short")
def test_an_interruption_keeps_what_is_finished(tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def stop(_: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        _runner.run_parts("digits", SHORT, [100, 101], workers=1, cache=tmp_path, done=stop)
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_help_teaches() -> None:
    result = CliRunner().invoke(app, ["demo", "--help"])
    assert result.exit_code == 0
    assert "goes on where it stopped" in " ".join(result.output.split())


def test_a_dry_run_does_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["demo", "--dry-run", "--seeds", "3", "--out", str(out)])
    assert result.exit_code == 0
    assert "3 seeds" in result.output
    assert not out.exists()


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupted)
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 130
    assert "run the command again" in result.output


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["demo", "--seeds", "1", "--out", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert "Choose another with --out" in " ".join(result.output.split())


def test_bad_options_are_named() -> None:
    result = CliRunner().invoke(app, ["demo", "--data", "imagenet"])
    assert result.exit_code == 2
    assert "imagenet" in result.output
