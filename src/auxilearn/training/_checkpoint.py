"""A run folder: one file, replaced whole, from which training goes on exactly."""

import os
import pickle
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
        key: What the run is; a state of another run is refused.

    Raises:
        InputError: If the folder is a file, or cannot be made or written to.
    """

    def __init__(self, folder: Path, key: str) -> None:
        check_folder(folder)
        self._file, self._key = folder / "checkpoint.pt", key

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state.

        Args:
            state: Tensors, numbers and strings in dictionaries and lists.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(".partial")
        try:
            torch.save({"key": self._key, **state}, partial)
            partial.replace(self._file)  # the file is there whole or not at all
        finally:
            partial.unlink(missing_ok=True)

    def load(self) -> dict[str, Any] | None:
        """Read the saved state.

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
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            rule = f"`{self._file}` must be a checkpoint of tensors, numbers and strings."
            raise InputError(explain(rule, f"It cannot be read: {error!r:.200}.", cure)) from error
        if not isinstance(state, dict) or cast("dict[str, Any]", state).pop("key", None) != self._key:
            rule = "A run goes on only with the settings that it began with."
            finding = f"`{self._file}` is of a run with other settings, data or losses."
            raise InputError(explain(rule, finding, cure))
        return cast("dict[str, Any]", state)


def check_folder(folder: Path) -> None:
    """Find out now whether a folder can be written to, rather than after hours.

    Args:
        folder: The folder; it need not exist.

    Raises:
        InputError: If it, or what would hold it, is a file or not writable.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    rule = "`folder` must be a folder that can be written to."
    if not there.is_dir():
        raise InputError(explain(rule, f"`{there}` is a file.", "Choose another name."))
    if not os.access(there, os.W_OK):
        raise InputError(explain(rule, f"`{there}` may not be.", "Choose another place, or change its permissions."))
