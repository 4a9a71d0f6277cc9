"""Real text that ships in packages: the docstrings of Python, torch and scikit-learn, read from their files.

Nothing is imported. Another version of a package has other docstrings, so figures differ a little between machines.
"""

import ast
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("python", "torch", "sklearn")
LEAST = 100  # characters


def docstrings(package: str, number: int) -> list[str]:
    """Read docstrings of at least 100 characters, in the order of the files' names, each once."""
    found: dict[str, None] = {}
    for file in _files(package):
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                text = ast.get_docstring(node) or ""
                if len(text) >= LEAST:
                    found[text] = None
        if len(found) >= number:
            break
    return list(found)[:number]


def _files(package: str) -> Iterator[Path]:
    if package == "python":
        yield from sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        return
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is needed for its docstrings: pip install 'auxilearn[experiments]'")
    root = Path(spec.origin).parent
    # The public parts of torch first, whose docstrings are about as long as the others'.
    for folder in [root / name for name in ("nn", "optim", "distributions")] if package == "torch" else [root]:
        yield from (f for f in sorted(folder.rglob("*.py")) if "tests" not in f.parts)
