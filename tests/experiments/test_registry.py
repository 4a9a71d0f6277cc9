"""Experiments are found by name or by place, and a wrong name is answered with the right one."""

import dataclasses

import pytest

import tiny_experiment
from auxilearn.errors import InputError
from auxilearn.experiments import registry


@pytest.mark.parametrize("name", registry.EXPERIMENTS)
def test_every_registered_experiment_is_consistent(name: str) -> None:
    experiment = registry.load(name)
    assert experiment.name == name
    assert experiment.title
    assert len(experiment.about) > 50


def test_an_experiment_of_ones_own_is_found_by_its_place() -> None:
    assert registry.load(tiny_experiment.PLACE) is tiny_experiment.EXPERIMENT


def test_a_wrong_name_is_answered_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "EXPERIMENTS", {"tiny": tiny_experiment.PLACE, "harmful": "x:Y"})
    assert registry.load("tiny") is tiny_experiment.EXPERIMENT
    with pytest.raises(InputError, match=r"There is no `tinny`. Did you mean `tiny`"):
        registry.load("tinny")
    with pytest.raises(InputError, match="There are: `tiny`, `harmful`"):
        registry.load("zzz")
    monkeypatch.setattr(registry, "EXPERIMENTS", {})
    with pytest.raises(InputError, match="There are none"):
        registry.load("zzz")


@pytest.mark.parametrize(
    ("place", "finding"),
    [
        ("no_such_module:X", "There is nothing"),
        ("tiny_experiment.inner:X", "There is nothing"),
        ("tiny_experiment:ABSENT", "There is nothing"),
        ("tiny_experiment:MODULE", "There is a `str`"),
    ],
)
def test_a_wrong_place_is_named(place: str, finding: str) -> None:
    with pytest.raises(InputError, match=finding):
        registry.load(place)


def test_a_module_that_lacks_something_of_its_own_says_what(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lacking_module.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        registry.load("lacking_module:X")


def test_contradictions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    good = tiny_experiment.EXPERIMENT
    for bad, finding in [
        (dataclasses.replace(good, cells=()), "no cells"),
        (dataclasses.replace(good, cells=(good.cells[0], good.cells[0])), "Two are called `first, 5 labels`"),
        (dataclasses.replace(good, ours="theirs"), "`first, 5 labels` has no method `theirs`"),
    ]:
        monkeypatch.setattr(tiny_experiment, "EXPERIMENT", bad)
        with pytest.raises(InputError, match=finding):
            registry.load(tiny_experiment.PLACE)
