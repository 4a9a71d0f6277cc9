"""The demo from end to end, on a shortened training: tables, pictures, resumption, the command line."""

from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from auxilearn.cli import app
from auxilearn.errors import InputError
from auxilearn.experiments import demo, registry
from auxilearn.experiments.given import _demo
from auxilearn.experiments.harness import _run
from auxilearn.experiments.harness._experiment import Result as Outcome
from auxilearn.training import Training


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_demo, "DEMO", _demo.demo(Training(steps=60), pool=60))
    monkeypatch.setenv("COLUMNS", "200")


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, ["demo", "--data", "digits", "--workers", "0", *(str(word) for word in words)])


def test_it_prints_tables_and_choices_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--first-seed", 100, "--seeds", 2, "--out", tmp_path)
    first = invoke(*words)
    assert first.exit_code == 0, first.output
    for part in ("useful, useless and harmful losses", "useless losses only"):
        assert f"digits, {part} (2 paired seeds)" in first.output
        assert f"digits, {part}: the gate chose" in first.output
    assert "MNIST" not in first.output
    assert str(tmp_path / "demo" / "weights.png") in first.output
    assert (tmp_path / "demo" / "weights.png").exists()
    assert len(list(tmp_path.rglob("100.json"))) == len(list(tmp_path.rglob("101.json"))) == 10 + 8

    # With everything there, nothing is run, and what is printed is the same.
    monkeypatch.setattr(_run, "_attempt", None)
    again = invoke(*words)
    assert "36 finished, 0 to run" in again.output
    assert again.output.splitlines()[-40:] == first.output.splitlines()[-40:]


def test_the_demo_has_both_parts_for_each_data_set() -> None:
    cells = registry.load("demo").cells
    assert [cell.name.partition(",")[0] for cell in cells] == ["MNIST-5k", "MNIST-5k", "digits", "digits"]
    assert [len(cell.task(0).kinds) for cell in cells] == [25, 23, 25, 23]


def test_choices_are_counted() -> None:
    def chosen(*words: str) -> str:
        return demo._chosen({seed: Outcome(1.0, 1.0, {"chosen": word}) for seed, word in enumerate(words)})

    assert chosen("learned", "learned") == "the learned weights in 2 of 2 seeds"
    assert chosen("learned", "main only", "main only") == (
        "main only in 2 of 3 seeds, the learned weights in 1 of 3 seeds"
    )


def test_a_failure_is_shown_and_decides_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Outcome:
        raise ZeroDivisionError

    for cell in _demo.DEMO.cells:
        monkeypatch.setitem(cell.methods, "ours", fail)  # type: ignore[arg-type]
    result = invoke("--seeds", 1, "--out", tmp_path)
    assert result.exit_code == 1
    assert "2 jobs failed" in result.output
    assert "the gate" not in result.output


def test_an_unknown_data_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No cell's name holds `cifar`"):
        demo.run(dataset="cifar", seeds=[0], workers=0, out=tmp_path, console=Console(quiet=True))
    result = invoke("--data", "imagenet")
    assert result.exit_code == 2
    assert "imagenet" in result.output


def test_a_dry_run_does_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = invoke("--dry-run", "--seeds", 3, "--out", out)
    assert result.exit_code == 0
    assert "2 cells, 10 methods, 3 seeds: 54 jobs" in result.output
    assert not out.exists()


def test_help_teaches() -> None:
    assert "goes on where it stopped" in " ".join(invoke("--help").output.split())


def test_ctrl_c_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_run, "_attempt", interrupted)
    result = invoke("--out", tmp_path)
    assert result.exit_code == 130
    assert "run the command again" in result.stderr


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = invoke("--seeds", 1, "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "Choose another with --out" in " ".join(result.stderr.split())
