"""The entry point names the extra that is missing, and otherwise shows the command line."""

import subprocess
import sys

import pytest

from auxilearn import __main__ as entry
from auxilearn.errors import MissingExtraError


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, *, extra: str) -> None:
        raise MissingExtraError(f"This needs the extra `{extra}`.")

    monkeypatch.setattr(entry, "require", missing)
    with pytest.raises(SystemExit, match="extra `experiments`"):
        entry.main()


def test_the_module_can_be_run() -> None:
    result = subprocess.run([sys.executable, "-m", "auxilearn", "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "demo" in result.stdout


def test_the_core_imports_torch_only() -> None:
    heavy = ("numpy.random", "scipy", "matplotlib", "rich", "typer", "mlxtend", "sklearn", "pandas")
    code = f"import auxilearn, sys; print([m for m in {heavy!r} if m in sys.modules and m != 'numpy.random'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
