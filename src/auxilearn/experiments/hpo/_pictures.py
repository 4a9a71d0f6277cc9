"""The picture of the experiment: what each method penalises, relative to the mean of all penalties."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auxilearn._extras import require
from auxilearn.experiments.harness._experiment import Result, Table

# Colour-blind safe (Okabe and Ito), and a marker each.
_METHODS = {
    "one-step unrolled": ("#E69F00", "s"),
    "original AuxiLearn": ("#D55E00", "X"),
    "ours": ("#0072B2", "o"),
}


def draw_penalties(table: Table, file: Path) -> None:
    """Draw a panel for each cell: the learned log penalties, averaged over seeds, in groups of one kind.

    Args:
        table: The results.
        file: Where the picture goes.
    """
    cells = {cell: found for cell, methods in table.items() if (found := _learned(methods))}
    if not cells:
        return
    figures: Any = require("matplotlib.figure", extra="experiments")
    figure = figures.Figure(figsize=(5.0 * len(cells), 4.0), layout="constrained")
    for panel, (cell, found) in zip(figure.subplots(1, len(cells), squeeze=False)[0], cells.items(), strict=True):
        kinds = next(iter(found.values()))[0]
        for name, (_, penalties) in found.items():
            colour, marker = _METHODS[name]
            panel.plot(penalties.tolist(), color=colour, marker=marker, ls="", ms=4, label=name)
        panel.axhline(0, color="0.6", lw=0.8, ls=":")
        words = list(dict.fromkeys(kinds))
        middles = [_middle(kinds, word) for word in words]
        panel.set(title=cell, xticks=middles, xticklabels=[f"{word}s" for word in words])
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize="small")
    figure.supylabel("log penalty − mean")
    figure.savefig(file, dpi=130)


def _learned(methods: Mapping[str, Mapping[int, Result]]) -> dict[str, tuple[list[str], Tensor]]:
    return {name: _mean(results) for name in _METHODS if (results := methods.get(name))}


def _mean(results: Mapping[int, Result]) -> tuple[list[str], Tensor]:
    details = [result.details for result in results.values()]
    penalties = torch.tensor([each["log penalties"] for each in details])
    return details[0]["of"], (penalties - penalties.mean(1, keepdim=True)).mean(0)


def _middle(kinds: list[str], word: str) -> float:
    places = [place for place, kind in enumerate(kinds) if kind == word]
    return (places[0] + places[-1]) / 2
