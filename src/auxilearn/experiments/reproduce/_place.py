"""The folder of one run: its curve, its checkpoint and best weights, its result."""

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, final

import torch
from torch import nn

Progress = Callable[[str, int, int], None]
"""Told a phase, the steps taken and all steps."""


def silent(phase: str, step: int, steps: int) -> None:
    """Say nothing.

    Args:
        phase: Not read.
        step: Not read.
        steps: Not read.
    """


@final
@dataclass(frozen=True)
class Place:
    """Where a method keeps what it does.

    Attributes:
        folder: Of this run alone; it exists.
        seed: The run's.
        progress: Is told of every step.
        save_every: Steps between two checkpoints; one more is kept at every interruption.
    """

    folder: Path
    seed: int
    progress: Progress = field(default=silent)
    save_every: int = 500

    @property
    def curve(self) -> Path:
        """The file of losses and validation metrics over the steps, comma-separated."""
        return self.folder / "curve.csv"

    @property
    def result(self) -> Path:
        """The file of the result; it is there only once the run is finished."""
        return self.folder / "result.json"

    def keep_curve(self, points: list[dict[str, float | str]]) -> None:
        """Write the curve. It is there whole or not at all.

        Args:
            points: Rows with a ``"phase"``, a ``"step"`` and whatever was measured.
        """
        names = list(dict.fromkeys(name for point in points for name in point))
        partial = self.curve.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            writer.writerows(points)
        partial.replace(self.curve)

    def keep_model(self, model: nn.Module) -> None:
        """Write the weights of the finished network.

        Args:
            model: The network.
        """
        partial = self.folder / "model.partial"
        torch.save({name: value.cpu() for name, value in model.state_dict().items()}, partial)
        partial.replace(self.folder / "model.pt")

    def keep_result(self, content: Mapping[str, Any]) -> None:
        """Write the result. It is there whole or not at all.

        Args:
            content: What JSON can hold.
        """
        partial = self.result.with_suffix(".partial")
        partial.write_text(json.dumps(dict(content), indent=1, allow_nan=False), encoding="utf-8")
        partial.replace(self.result)

    def read_result(self) -> dict[str, Any] | None:
        """Read the result.

        Returns:
            What was kept; None if the run is not finished, or the file is broken.
        """
        try:
            found = json.loads(self.result.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            return None
        return cast("dict[str, Any]", found) if isinstance(found, dict) else None
