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
    found: dict[str, list[float]] = {PEER: [], ORIGINAL: []}
    for state in states:
        costs = {kind: _cheapest(state["methods"], *which) for kind, which in KINDS.items()}
        for kind, (cost, method) in costs.items():
            ratio = cost / costs[OURS][0]
            shown = cost if math.isfinite(cost) else "never"
            rows.append((str(state["step"]), kind, method, shown, ratio if math.isfinite(ratio) else None))
        for rival, ratios in found.items():
            ratios.append(costs[OURS][0] / costs[rival][0])
    ratios = tuple(
        Ratio(f"gradients for a cosine of {COSINE}, {name}, ours", median(times), rival)
        for rival, times in found.items()
        if math.isfinite(median(times)) and median(times) > 0
    )
    columns = {"step": "", "": "", "method": "", f"gradients for a cosine of {COSINE}": ".1f", "ratio": ".2f"}
    return Table(f"{name}: cost in gradients of the train loss", OURS, columns, tuple(rows), ratios=ratios)


def _cheapest(methods: dict[str, Any], family: str, remembers: bool) -> tuple[float, str]:
    costs = [
        (_cost(method["points"]), name)
        for name, method in methods.items()
        if method["family"] == family and method["remembers"] == remembers
    ]
    cost, name = min(costs, default=(math.inf, ""))
    return cost, name if math.isfinite(cost) else ""


def _cost(points: Sequence[dict[str, float]]) -> float:
    # The cheapest budget from which on every larger one is as close; a cosine of NaN is not.
    cost = math.inf
    for point in reversed(points):
        if not point["cosine"] >= COSINE:
            break
        cost = point["gradients"]
    return cost
