"""`auxilearn reproduce` from end to end on a tiny reproduction."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from auxilearn.cli import app
from auxilearn.errors import InputError
from auxilearn.experiments.reproduce import _commands, _registry
from tiny_reproduction import data


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_registry, "REPRODUCTIONS", {"tiny": "tiny_reproduction:TINY"})
    monkeypatch.setenv("COLUMNS", "200")


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, ["reproduce", *(str(word) for word in words)])


def test_a_smoke_run_prints_the_paper_beside_ours_and_is_not_run_twice(tmp_path: Path) -> None:
    words = ("tiny", "--data", data(tmp_path / "data"), "--budget", "smoke", "--out", tmp_path / "out")
    first = invoke(*words, "--method", "main only, equal", "--method", "ours", "--seeds", 2)
    assert first.exit_code == 0, first.output
    assert "Tiny digits: 6 runs (smoke budget), 0 finished, 6 to run on cpu" in first.output
    assert "Nobody, 2021" in first.output
    assert "70 ± 0.5" in first.output
    assert "evidence about nothing" in first.output
    cell = tmp_path / "out" / "tiny" / "smoke" / "digits, tiny"
    assert {"table.md", "runs.csv", "curves.png"} <= {file.name for file in cell.iterdir()}
    assert len((cell / "runs.csv").read_text().splitlines()) == 7
    second = invoke(*words, "--method", "main only,equal,ours", "--seeds", 2)
    assert "6 finished, 0 to run" in second.output


def test_a_dry_run_needs_no_data_and_shows_every_source(tmp_path: Path) -> None:
    shown = invoke("tiny", "--dry-run", "--out", tmp_path / "out")
    assert shown.exit_code == 0, shown.output
    assert "(paper budget)" in shown.output
    assert "nobody published this" in shown.output
    assert "AuxiLearn, nonlinear" in shown.output
    assert not (tmp_path / "out").exists()


def test_changed_hyperparameters_are_shown_and_kept_apart(tmp_path: Path) -> None:
    words = ("tiny", "--budget", "smoke", "--out", tmp_path / "out", "--set", "epochs=3", "--set", "batch=40")
    assert "changed by --set" in invoke(*words, "--dry-run").output
    found = invoke(*words, "--data", data(tmp_path / "data"), "--method", "main only")
    assert found.exit_code == 0, found.output
    assert (tmp_path / "out" / "tiny" / "smoke, batch=40, epochs=3" / "digits, tiny" / "runs.csv").exists()
    wrong = invoke("tiny", "--dry-run", "--set", "epochs")
    assert wrong.exit_code == 2
    assert "A change must be `name=value`" in wrong.output


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for words, message in [
        (("tiny",), "make-miniature tiny"),
        (("tiny", "--data", tmp_path / "empty"), "https://example.org/digits"),
        (("tini", "--data", tmp_path), "Did you mean `tiny`?"),
        (("tiny", "--data", data(tmp_path / "data"), "--device", "tpu7"), "not usable"),
        (("tiny", "--data", tmp_path / "data", "--method", "magic"), "There is no `magic`"),
    ]:
        found = invoke(*words, "--out", tmp_path / "out")
        assert found.exit_code == 2, found.output
        assert message in found.output
        assert len(found.output.strip().splitlines()) == 1


def test_checksums_are_compared_on_request(tmp_path: Path) -> None:
    found = invoke("tiny", "--data", data(tmp_path / "data"), "--verify")
    assert found.exit_code == 0
    assert "1 more are there; nobody publishes their checksums." in found.output


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _commands.carry_out

    def fail(chosen, run, *rest):  # type: ignore[no-untyped-def]
        if run.method == "equal":
            raise InputError("The loss is gone. Look for it.")
        whole(chosen, run, *rest)

    monkeypatch.setattr(_commands, "carry_out", fail)
    found = invoke(
        "tiny", "--data", data(tmp_path / "d"), "--budget", "smoke", "--method", "equal,DWA", "--out", tmp_path
    )
    assert found.exit_code == 1
    assert "failed: digits, tiny / equal / seed 0: The loss is gone." in found.output
    assert "DWA" in found.output


def test_help_teaches() -> None:
    for command in ("reproduce", "make-miniature"):
        shown = CliRunner().invoke(app, [command, "--help"]).output
        assert f"auxilearn {command}" in " ".join(shown.split())
