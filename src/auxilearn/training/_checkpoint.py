"""A run folder: one file, replaced whole, from which training goes on exactly."""

import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any, cast, final

import torch

from auxilearn._checks import explain
from auxilearn.errors import InputError


@final
class Checkpoint:
    """The file ``checkpoint.pt`` of a folder.

    Args:
        folder: The folder; it is made when the first state is saved.

    Raises:
        InputError: If the folder is a file, or cannot be made or written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self._file = check_folder(folder) / "checkpoint.pt"

    def save(self, key: str, state: dict[str, Any]) -> None:
        """Replace the saved state.

        Args:
            key: What the run is.
            state: Tensors, numbers and strings in dictionaries and lists.

        Raises:
            InputError: If it holds anything else, and could not be read again; the file is as it was then.
        """
        missing = [place for place in self._file.parents if not place.exists()]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(".partial")
        try:
            torch.save({"key": key, **state}, partial)
            torch.load(partial, weights_only=True, map_location="cpu", mmap=True)  # reads no tensors yet
            partial.replace(self._file)  # the file is there whole or not at all
        except (pickle.PickleError, AttributeError, TypeError) as error:
            rule = "A checkpoint holds tensors, numbers and strings in dictionaries and lists."
            finding = f"There is something else, perhaps in the `state_dict` of a callback: {_short(error)}."
            raise InputError(explain(rule, finding, "Convert it, e.g. with `float(...)` or `.tolist()`.")) from error
        finally:
            partial.unlink(missing_ok=True)
            if not self._file.exists():
                with suppress(OSError):
                    for place in missing:  # nothing was saved, so no folder is left either
                        place.rmdir()

    def load(self, key: str) -> dict[str, Any] | None:
        """Read the saved state.

        Args:
            key: What the run is; a state of another run is refused.

        Returns:
            The state, on the CPU; None if there is none.

        Raises:
            InputError: If it cannot be read, or is of another run.
        """
        if not self._file.exists():
            return None
        cure = "Choose another folder, or delete this one."
        try:
            state = cast("object", torch.load(self._file, weights_only=True, map_location="cpu"))
        except Exception as error:  # what torch raises on bytes that are no checkpoint hangs upon the bytes
            rule = f"`{self._file}` must be a checkpoint of tensors, numbers and strings."
            raise InputError(explain(rule, f"It cannot be read: {_short(error)}.", cure)) from error
        if not isinstance(state, dict) or cast("dict[str, Any]", state).pop("key", None) != key:
            rule = "A run goes on only with the settings that it began with."
            finding = f"`{self._file}` is of a run with other settings, data or losses."
            raise InputError(explain(rule, finding, cure))
        return cast("dict[str, Any]", state)


def _short(error: Exception) -> str:
    # Around what was found torch goes on about options that its own caller has.
    found = str(error).split("WeightsUnpickler error: ")[-1].split(" Please use")[0].rstrip(".")
    return f"{type(error).__name__}: {found.splitlines()[0] if found else ''}"


def check_folder(folder: str | Path) -> Path:
    """Find out now whether a folder can be written to, rather than after hours.

    Args:
        folder: The folder; it need not exist.

    Returns:
        The folder.

    Raises:
        InputError: If no folder can have that name, or it, or what would hold it, is a file or not writable.
    """
    rule = "`folder` must be a folder that can be written to."
    try:
        path = Path(folder)
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
    except (TypeError, ValueError, OSError) as error:
        raise InputError(explain(rule, f"{error!s:.100}.", "Choose another name, a string or a path.")) from error
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if path.is_symlink() and not path.exists():
        raise InputError(explain(rule, f"`{path}` is a link to nowhere.", "Choose another name, or make its target."))
    if not there.is_dir():
        raise InputError(explain(rule, f"`{there}` is a file.", "Choose another name."))
    if not os.access(there, os.W_OK):
        raise InputError(explain(rule, f"`{there}` may not be.", "Choose another place, or change its permissions."))
    return path
