"""Optional dependencies: import them late, and name the extra when one is missing."""

from importlib import import_module
from types import ModuleType

from auxilearn._checks import explain
from auxilearn.errors import MissingExtraError


def require(module: str, /, *, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: The module's dotted name.
        extra: The extra of auxilearn that installs it.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: If the module is not installed; the message names the extra.

    Example:
        >>> require("math", extra="experiments").sqrt(4.0)
        2.0
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        # A module that is there but lacks a dependency of its own is found wanting by its own name.
        raise MissingExtraError(
            explain(
                f"This needs the extra `{extra}`.",
                f"`{error.name}` is not installed.",
                f"Run `pip install 'auxilearn[{extra}]'`, or `pip install '.[{extra}]'` in a checkout.",
            )
        ) from error
