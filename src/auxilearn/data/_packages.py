"""Files of installed packages, found without importing them."""

from importlib.util import find_spec
from pathlib import Path

from auxilearn._extras import require


def folder(package: str, *, extra: str) -> Path:
    """Find the folder of an installed package.

    The package is not imported: some take a second, and some import what is no longer there.

    Args:
        package: Its name.
        extra: The extra of auxilearn that installs it.

    Returns:
        The folder.

    Raises:
        MissingExtraError: If it is not installed.
    """
    spec = find_spec(package)
    # A package that cannot be found cannot be imported either, and that error has the right words.
    origin = require(package, extra=extra).__file__ if spec is None else spec.origin
    return Path(str(origin)).parent
