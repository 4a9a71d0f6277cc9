"""Optional dependencies: found, or missed with the extra's name."""

import math
import sys
from pathlib import Path

import pytest

from auxilearn._extras import require
from auxilearn.errors import AuxilearnError, MissingExtraError


def test_a_module_that_is_there_is_returned() -> None:
    assert require("math", extra="experiments") is math


def test_a_missing_module_names_the_extra_and_the_command() -> None:
    with pytest.raises(MissingExtraError) as caught:
        require("a_module_nobody_wrote.part", extra="vision")
    assert str(caught.value) == (
        "This needs the extra `vision`. `a_module_nobody_wrote` is not installed. "
        "Run `pip install 'auxilearn[vision]'`, or `pip install '.[vision]'` in a checkout."
    )
    assert isinstance(caught.value, (AuxilearnError, ImportError))


def test_a_module_that_lacks_a_dependency_of_its_own_blames_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "incomplete_module.py").write_text("import what_it_needs\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="`what_it_needs` is not installed"):
        require("incomplete_module", extra="experiments")
    assert "incomplete_module" not in sys.modules


def test_a_module_that_breaks_for_another_reason_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        require("broken_module", extra="experiments")
