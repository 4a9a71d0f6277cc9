"""Learned weights over time, coloured by what each task is worth."""

from pathlib import Path
from typing import Any

import torch

from auxilearn._extras import require
from auxilearn.experiments._study import Outcome, Part

# Colour-blind safe (Okabe and Ito), and a line style each, so that print tells them apart as well.
_STYLES = {
    "good": ("#009E73", "-"),
    "random": ("#999999", "-"),
    "adversarial": ("#D55E00", "-"),
    "attribute": ("#0072B2", "--"),
    "bit": ("#F0E442", ":"),
    "noise": ("#CC79A7", ":"),
}


def plot_weights(part: Part, outcome: Outcome, file: Path) -> None:
    """Draw a line for each task: the geometric mean of its weight over seeds.

    Args:
        part: What was run.
        outcome: The results.
        file: Where the picture goes; its ending decides the format.
    """
    figures: Any = require("matplotlib.figure", extra="experiments")
    theta = torch.tensor(outcome.path).log().mean(0)  # (outer steps, K)
    steps = [part.search.warmup + part.search.every * i for i in range(len(theta))]
    figure = figures.Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    seen: set[str] = set()
    for k, kind in enumerate(part.suite.kinds):
        colour, style = _STYLES[kind]
        label = f"{kind} ({part.suite.kinds.count(kind)})" if kind not in seen else None
        axis.plot(steps, theta[:, k].exp().tolist(), color=colour, linestyle=style, lw=1.5, label=label)
        seen.add(kind)
    axis.axhline(1, color="black", lw=0.5, ls=":")
    axis.set(
        yscale="log",
        xlabel="training step",
        ylabel="weight of the normalised loss",
        title=f"{part.name}: learned weights, geometric mean of {len(outcome.seeds)} seeds",
    )
    axis.legend(frameon=False, fontsize="small")
    figure.savefig(file, dpi=130)
