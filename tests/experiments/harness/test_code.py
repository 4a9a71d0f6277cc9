"""Code that can change a result changes the hash; nothing else does."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from auxilearn.experiments.harness import _code
from auxilearn.experiments.harness._code import code_of


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "hashed"
    folder.mkdir()
    files = {
        "__init__": "",
        "study": '"""A study."""\nfrom hashed import method\nfrom . import relative\n'
        "from hashed._pictures import draw\nimport hashed.plain, torch\n"
        "from auxilearn.experiments.harness._experiment import Cell\n",
        "method": "def train():\n    return 1\n",
        "relative": "y = 1\n",
        "plain": "z = 1\n",
        "_pictures": "def draw(): ...\n",
        "elsewhere": "x = 1\n",
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    _forget()


def _forget() -> None:
    code_of.cache_clear()
    _code._file.cache_clear()


def changed(file: Path, text: str) -> bool:
    before = code_of("hashed.study")
    file.write_text(text)
    _forget()
    return code_of("hashed.study") != before


@pytest.mark.parametrize("name", ["method", "relative", "plain", "study"])
def test_code_that_is_imported_counts(package: Path, name: str) -> None:
    file = package / f"{name}.py"
    assert changed(file, file.read_text() + "w = 2\n")


@pytest.mark.parametrize("name", ["_pictures", "elsewhere"])
def test_pictures_and_code_that_is_not_imported_do_not_count(package: Path, name: str) -> None:
    assert not changed(package / f"{name}.py", "other = 1\n")


def test_comments_docstrings_and_layout_do_not_count(package: Path) -> None:
    assert not changed(
        package / "method.py", '"""Words."""\n\n\ndef train():\n    """More."""\n    # Why.\n    return 1\n'
    )


def test_the_library_counts_as_far_as_it_is_imported() -> None:
    assert code_of("tiny_experiment") != code_of("auxilearn.experiments.harness._experiment")


def test_modules_without_a_file_have_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "made_by_hand", types.ModuleType("made_by_hand"))
    assert code_of("made_by_hand") == code_of("no_such_module") == code_of("sys")
