"""Tables from a benchmark that keeps a JSON of its own."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmark import Cell, Ratio, Table

COSINE = 0.99
OURS, PEER, ORIGINAL = "ours, the best", "the best peer", "the original, the best α"
KINDS = {  # with the family, and whether it remembers
    OURS: ("ours", False),
    "ours, the best that remembers": ("ours", True),
    ORIGINAL: ("original", False),
    PEER: ("peer", False),
}


def frontier(folder: Path, quick: bool) -> list[Table]:
    """Return for each problem what the best method of each kind takes for a direction close to the exact one."""
    data = json.loads((folder / f"{'quick-' if quick else ''}frontier.json").read_text("utf-8"))
    return [_problem(name, states) for name, states in data["problems"].items()]


def _problem(name: str, states: Sequence[dict[str, Any]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    ours_over: dict[str, list[float]] = {}
    for state in states:
        costs = {kind: found for kind, which in KINDS.items() if (found := _cheapest(state["methods"], *which))}
        ours = costs[OURS][0]
        for kind, (cost, method) in costs.items():
            near = math.isfinite(cost)
            ratio = cost / ours if near and math.isfinite(ours) else None
            rows.append((str(state["step"]), kind, method if near else "", cost if near else "never", ratio))
            # A rival that never got there took infinitely much.
            ours_over.setdefault(kind, []).append(ours / cost if near else 0.0 if math.isfinite(ours) else math.nan)
    found = {rival: median(ours_over[rival]) for rival in (PEER, ORIGINAL) if rival in ours_over}
    what = f"gradients for a cosine of {COSINE}"
    ratios = tuple(
        Ratio(f"{what}, {name}, ours", ratio, rival) for rival, ratio in found.items() if 0 < ratio < math.inf
    )
    notes = tuple(
        f"No ratio to {rival}: {'that never came so close' if ratio == 0 else 'ours never came so close'}."
        for rival, ratio in found.items()
        if not 0 < ratio < math.inf
    )
    columns = {"step": "", "": "", "method": "", what: ".1f", "ratio": ".2f"}
    return Table(f"{name}: cost in gradients of the train loss", OURS, columns, tuple(rows), notes, ratios)


def _cheapest(methods: dict[str, Any], family: str, remembers: bool) -> tuple[float, str] | None:
    costs = [
        (_cost(method["points"]), name)
        for name, method in methods.items()
        if method["family"] == family and method["remembers"] == remembers
    ]
    return min(costs, default=None)


def _cost(points: Sequence[dict[str, float]]) -> float:
    # The cheapest budget from which on every larger one is as close; a cosine of NaN is not.
    cost = math.inf
    for point in reversed(points):
        if not point["cosine"] >= COSINE:
            break
        cost = point["gradients"]
    return cost
