"""`auxilearn reproduce` from end to end on a tiny reproduction."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import tiny_reproduction
from auxilearn.cli import app
from auxilearn.errors import InputError
from auxilearn.experiments.reproduce import _commands, _registry
from auxilearn.experiments.reproduce._reproduction import Setup
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
    assert "1 of 1 are there; nobody publishes their checksums." in found.output


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


def test_results_of_other_data_are_not_these(tmp_path: Path) -> None:
    words = ("tiny", "--budget", "smoke", "--out", tmp_path / "out", "--method", "main only")
    assert invoke(*words, "--data", data(tmp_path / "data")).exit_code == 0
    assert "1 finished, 0 to run" in invoke(*words, "--data", tmp_path / "data").output
    other = data(tmp_path / "other")
    (other / "digits.txt").write_text("other digits\n")
    assert "0 finished, 1 to run" in invoke(*words, "--data", other).output


def test_a_fault_of_the_data_is_one_line_and_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(setup: Setup) -> None:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid\nstart byte")

    tiny = replace(tiny_reproduction.TINY, cells=(replace(tiny_reproduction.CELL, task=broken),))
    monkeypatch.setattr(tiny_reproduction, "TINY", tiny)
    found = invoke("tiny", "--data", data(tmp_path / "d"), "--budget", "smoke", "--out", tmp_path / "out")
    assert found.exit_code == 2
    assert "must be as published. Reading them raised `UnicodeDecodeError" in found.output
    assert "accuracy, %" not in found.output


def test_a_mistake_in_a_method_leaves_its_traceback_in_the_run_s_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = {**tiny_reproduction.CELL.methods, "DWA": lambda task, place: {}["absent"]}
    tiny = replace(tiny_reproduction.TINY, cells=(replace(tiny_reproduction.CELL, methods=methods),))
    monkeypatch.setattr(tiny_reproduction, "TINY", tiny)
    words = ("tiny", "--data", data(tmp_path / "d"), "--budget", "smoke", "--out", tmp_path / "out")
    found = invoke(*words, "--method", "DWA,equal")
    assert found.exit_code == 1
    assert "failed: digits, tiny / DWA / seed 0: KeyError: 'absent' (see error.txt in its folder)" in found.output
    assert "Traceback" in next((tmp_path / "out").rglob("error.txt")).read_text()
    assert len(list((tmp_path / "out").rglob("result.json"))) == 1


def test_broken_results_are_run_again_and_broken_curves_not_drawn(tmp_path: Path) -> None:
    words = ("tiny", "--data", data(tmp_path / "d"), "--budget", "smoke", "--out", tmp_path / "out")
    assert invoke(*words, "--method", "equal").exit_code == 0
    (result,) = (tmp_path / "out").rglob("result.json")
    whole = json.loads(result.read_text())
    for text in ("\xff", "[]", "{", json.dumps({**whole, "metrics": 3}), json.dumps({**whole, "metrics": {}})):
        result.write_bytes(text.encode("latin-1"))
        result.with_name("curve.csv").write_bytes(b"phase,step\ntrain,x\n\xff")
        assert "0 finished, 1 to run" in invoke(*words, "--method", "equal").output
    result.with_name("curve.csv").write_bytes(b"phase,step\ntrain,x\n\xff")
    assert invoke(*words, "--method", "equal").exit_code == 0


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    folder = data(tmp_path / "d")
    for words, message in [
        (("--cell", "digits", "--cell", "faces"), "None has 'faces' in its name"),
        (("--set", "lr=1", "--set", "lr=2"), "`lr` was set to 1 and to 2"),
        (("--set", "every=0"), "`every` must be"),
        (("--set", "held_out=1.0"), "`held_out` must be a share"),
        (("--set", "weight_decay=-1.0"), "`weight_decay` must be"),
        (("--set", "epochs={[]:1}"), "`epochs` must be a `int`"),
        (("--device", "meta"), "`meta` is not usable"),
        (("--device", "cpu:7"), "there is one CPU"),
        (("--out", folder / "out"), "The folder of the data is only read"),
        (("--out", folder / "digits.txt"), "`folder` must be a folder"),
    ]:
        found = invoke("tiny", "--data", folder, "--budget", "smoke", "--out", tmp_path / "out", *words)
        assert found.exit_code == 2, found.output
        assert message in found.output
        assert len(found.output.strip().splitlines()) == 1
    late = invoke("tiny", "--dry-run", "--first-seed", 5)
    assert "26 runs" in late.output
