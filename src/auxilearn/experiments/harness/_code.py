"""A hash of the code that can change an experiment's results, so that results of other code are known to be stale."""

import ast
import hashlib
from functools import lru_cache
from importlib.util import find_spec, resolve_name
from pathlib import Path

# Modules that only show results: an experiment's module may import them for its own picture.
_SHOWS = ("_pictures", "_tables")


@lru_cache
def code_of(module: str) -> str:
    """Hash a module and, recursively, everything of its own package and of auxilearn that it imports.

    What it never imports cannot change its results: the command line, tables, or other experiments. Modules whose
    names end in ``_pictures`` or ``_tables`` are left out too. Docstrings, comments and layout do not count.

    Args:
        module: A dotted name; nothing is imported.

    Returns:
        The hash, in hexadecimal digits.

    Example:
        >>> code_of("auxilearn.experiments.harness._experiment") == code_of("auxilearn.experiments.harness._code")
        False
    """
    packages = {"auxilearn", module.partition(".")[0]}
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = _file(name) if name.partition(".")[0] in packages else None
        if file is None or name in seen or name.endswith(_SHOWS):
            continue
        tree = ast.parse(file.read_bytes())
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        waiting += _imports(tree, package)
        seen[name] = ast.dump(_without_docstrings(tree))
    return hashlib.sha256("\0".join(f"{name}\0{seen[name]}" for name in sorted(seen)).encode()).hexdigest()


def _imports(tree: ast.Module, package: str) -> list[str]:
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            source = resolve_name(source, package) if node.level else source
            for alias in node.names:
                # `from package import module` needs the module only: the rest of a package that another part of the
                # library happens to export changes nothing here.
                inner = f"{source}.{alias.name}"
                found.append(inner if _file(inner) else source)
    return found


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:]
    return tree


@lru_cache
def _file(name: str) -> Path | None:
    # By paths, not by `find_spec` of the whole name, which would import the parents.
    top, *rest = name.split(".")
    try:
        spec = find_spec(top)
    except ValueError:  # `__main__`, and modules made by hand
        return None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    if not rest:
        return Path(spec.origin)
    at = Path(spec.origin).parent.joinpath(*rest)
    return next((file for file in (at / "__init__.py", at.with_suffix(".py")) if file.is_file()), None)
