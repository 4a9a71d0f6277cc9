"""The picture of the nonlinear experiment: what a combiner does to a label that the network contradicts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from auxilearn._extras import require
from auxilearn.experiments.harness._experiment import Result, Table

# Colour-blind safe (Okabe and Ito); a line style each, so that print tells them apart as well.
_COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
_STYLES = ("-", "--", ":", "-.", (0, (1, 1)), (0, (5, 1)))


def draw_pulls(table: Table, file: Path) -> None:
    """Draw the learned pulls over the cross entropy, and which share of them goes to right labels.

    Args:
        table: The results; the first cell that has learned combiners is drawn.
        file: Where the picture goes.
    """
    figures: Any = require("matplotlib.figure", extra="experiments")
    learned = [(cell, found) for cell, methods in table.items() if (found := _with_pulls(methods))]
    if not learned:
        return
    cell, found = learned[0]
    figure = figures.Figure(figsize=(3.6 * (len(found) + 1), 3.8), layout="constrained")
    *panels, bars = figure.subplots(1, len(found) + 1, squeeze=False)[0]
    kinds = list(next(iter(next(iter(found.values())).values())).details["kinds"][1:])
    for panel, (name, results) in zip(panels, found.items(), strict=True):
        at, pull = next(iter(results.values())).details["cross entropy"], _mean(results, "pull")
        for k, kind in enumerate(kinds):
            panel.plot(at, pull[k].clamp(min=1e-4).tolist(), color=_COLOURS[k % 6], ls=_STYLES[k % 6], lw=2, label=kind)
        panel.set(title=name, xlabel="cross entropy of the label", ylim=(2e-4, 2), yscale="log", xlim=(0, at[-1]))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("pull of a label (first annotator, no loss: 1)")
    panels[0].legend(frameon=False, title="annotator")
    _bars(bars, {name: _mean(results, "share to right labels") for name, results in found.items()}, kinds)
    seeds = len(next(iter(found.values())))
    figure.suptitle(f"{cell}: what each learned combiner does to a label (mean of {seeds} seeds)")
    figure.savefig(file, dpi=130)


def _with_pulls(methods: Mapping[str, Mapping[int, Result]]) -> dict[str, Mapping[int, Result]]:
    return {name: of for name, of in methods.items() if of and all("pull" in r.details for r in of.values())}


def _bars(panel: Any, shares: Mapping[str, torch.Tensor], kinds: list[str]) -> None:
    width = 0.8 / len(shares)
    for i, (name, share) in enumerate(shares.items()):
        places = [k + (i - (len(shares) - 1) / 2) * width for k in range(len(kinds))]
        shade = str(0.8 - 0.6 * i / max(1, len(shares) - 1))
        panel.bar(places, (100 * share).tolist(), width=0.9 * width, color=shade, label=name)
    panel.set(ylim=(0, 100), title="pull that goes to right labels, %", xticks=range(len(kinds)), xticklabels=kinds)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize="small", loc="upper right")


def _mean(results: Mapping[int, Result], key: str) -> torch.Tensor:
    return torch.tensor([result.details[key] for result in results.values()]).mean(0)
