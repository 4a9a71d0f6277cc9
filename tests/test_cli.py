"""The commands from end to end on a tiny experiment: tables, resumption, errors of one line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import tiny_experiment
from auxilearn.cli import app
from auxilearn.errors import MissingExtraError
from auxilearn.experiments import registry
from auxilearn.experiments.harness import _commands, _run, _store


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"tiny": tiny_experiment.PLACE, "broken": "tiny_experiment:BROKEN"}
    monkeypatch.setattr(registry, "EXPERIMENTS", places)
    monkeypatch.setenv("COLUMNS", "160")


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_list_shows_titles_and_one_experiment_shows_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "A tiny comparison" in invoke("list").output
    described = invoke("list", "tiny").output
    assert "first, 5 labels" in described
    assert "equal, raw" in described

    def missing(name: str) -> None:
        raise MissingExtraError("This needs the extra `experiments`.")

    monkeypatch.setattr(registry, "load", missing)
    assert "needs the extra" in invoke("list").output


@pytest.mark.parametrize("command", ["list", "run", "compare", "plot", "results"])
def test_help_teaches_by_an_example(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"auxilearn {command}" in " ".join(result.output.split())


def test_a_first_look_prints_ours_against_the_basic_methods(tmp_path: Path) -> None:
    result = invoke("run", "tiny", "--workers", 0, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "first, 5 labels (3 paired seeds)" in result.output
    assert "oracle" not in result.output
    assert "ours is best" in result.output
    assert "in 2 of 2 cells (100%)" in result.output


def test_a_comparison_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = ("compare", "tiny", "--methods", "main only,ours", "--cell", "second", "--workers", 0, "--out", tmp_path)
    assert invoke(*some, "--seeds", 2).exit_code == 0
    dry = invoke(*some, "--seeds", 3, "--dry-run")
    assert "1 cell, 2 methods, 3 seeds: 6 jobs, 4 finished, 2 to run. With 1 process: about" in dry.output
    assert len(list(tmp_path.rglob("*.json"))) == 4
    more = invoke(*some, "--seeds", 3)
    assert "Ran 2 jobs" in more.output
    # With everything there, nothing is run, and the table is the same.
    monkeypatch.setattr(_run, "_attempt", None)
    again = invoke(*some, "--seeds", 3)
    assert again.exit_code == 0
    assert "Ran" not in again.output
    assert again.output.splitlines()[-8:] == more.output.splitlines()[-8:]


def test_results_of_older_code_are_shown_when_they_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--out", tmp_path / "results")
    invoke("run", "tiny", "--workers", 0, *words)
    monkeypatch.setattr(_store, "code_of", lambda module: "newer")
    assert "18 jobs, 0 finished" in invoke("run", "tiny", "--dry-run", *words).output
    assert invoke("plot", "tiny", *words).exit_code == 2
    trusting = invoke("run", "tiny", "--trust", *words)
    assert "18 jobs, 18 finished, 0 to run" in trusting.output
    assert "18 results of older code" in trusting.output
    assert invoke("plot", "tiny", "--trust", *words).exit_code == 0
    page = tmp_path / "page.md"
    assert invoke("results", *words, "--page", page).exit_code == 2
    assert not page.exists()
    assert invoke("results", "--trust", *words, "--page", page).exit_code == 0
    assert "18 results were computed by older code" in page.read_text()


def test_without_ours_the_first_method_is_the_one_compared_with(tmp_path: Path) -> None:
    result = invoke(
        "compare", "tiny", "--methods", "equal, raw,main only", "--seeds", 2, "--workers", 0, "--out", tmp_path
    )
    assert "equal, raw − it" in result.output


def test_failures_are_listed_and_the_rest_is_shown(tmp_path: Path) -> None:
    result = invoke("run", "broken", "--workers", 0, "--out", tmp_path)
    assert result.exit_code == 1
    assert result.output.count("only / main only / seed 1: ValueError: the loss is NaN") == 2
    assert "2 to 3 seeds: not finished" in result.output
    assert "The first of them" in result.output


def test_seeds_and_methods_may_be_chosen_one_by_one(tmp_path: Path) -> None:
    words = ("--methods", "main only,ours", "--seed", 100, "--seed", 101, "--seed", 100)
    result = invoke("run", "tiny", *words, "--workers", 0, "--out", tmp_path)
    assert "2 methods, 2 seeds: 8 jobs" in result.output
    assert "second (2 paired seeds)" in result.output


def test_pictures_are_drawn_beside_the_results(tmp_path: Path) -> None:
    invoke("run", "tiny", "--workers", 0, "--out", tmp_path)
    result = invoke("plot", "tiny", "--out", tmp_path)
    assert result.output.split() == [str(tmp_path / "tiny" / f"{name}.png") for name in ("differences", "weights")]
    assert invoke("plot", "tiny", "--out", tmp_path, "--to", tmp_path / "pictures").exit_code == 0
    assert (tmp_path / "pictures" / "weights.png").exists()


def test_the_page_of_results_holds_every_table(tmp_path: Path) -> None:
    invoke("compare", "tiny", "--seeds", 6, "--workers", 0, "--out", tmp_path / "results")
    result = invoke("results", "--out", tmp_path / "results", "--page", tmp_path / "results.md")
    assert "Without results that hold: broken" in result.output
    page = (tmp_path / "results.md").read_text()
    assert "## Goals" in page
    assert "### first, 5 labels" in page
    assert "| oracle |" in page
    assert "Without results: `broken`." in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "tinny"), "Did you mean `tiny`?"),
        (("list", "tinny"), "Did you mean `tiny`?"),
        (("compare", "tiny", "--methods", "our"), "Did you mean `ours`?"),
        (("compare", "tiny", "--cell", "zzz"), "No cell's name holds `zzz`"),
        (("compare", "tiny", "--cell", "second", "--methods", "oracle"), "None of the chosen cells"),
        (("compare", "tiny", "--out", "FILE"), "Choose another with --out"),
        (("plot", "tiny", "--out", "EMPTY"), "Run `auxilearn compare tiny` first"),
        (("results", "--out", "EMPTY", "--page", "EMPTY/results.md"), "pass --page FILE"),
        (("results", "--out", "EMPTY", "--page", "PAGE"), "Run `auxilearn compare NAME` first"),
        (("run", "no_such_module:X"), "package.module:CONSTANT"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    (tmp_path / "file").write_text("")
    places = {"FILE": tmp_path / "file", "EMPTY": tmp_path / "empty", "PAGE": tmp_path / "page.md"}
    result = invoke(*(places.get(word, word) for word in words))
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert isinstance(result.exception, SystemExit)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # and nothing was made


def test_bad_options_are_named() -> None:
    assert invoke("compare", "tiny", "--seeds", 0).exit_code == 2
    assert invoke("run", "tiny", "--workers", -1).exit_code == 2


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    invoke("run", "tiny", "--workers", 0, "--out", tmp_path)
    result = invoke("results", "--out", tmp_path, "--page", tmp_path)
    assert result.exit_code == 1
    assert "could not be read or written" in result.stderr
    assert str(tmp_path) in result.stderr


def test_ctrl_c_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_commands, "run_jobs", interrupted)
    result = invoke("run", "tiny", "--out", tmp_path)
    assert result.exit_code == 130
    assert "run the command again" in result.stderr
