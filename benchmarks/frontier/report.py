"""The numbers as JSON and Markdown, the frontier as a picture.

``python benchmarks/frontier/report.py results/frontier`` writes them again from the parts that are there.
"""

import json
import math
import sys
from pathlib import Path
from statistics import median
from typing import Any

from budgets import THRESHOLD
from measure import reached

DEFAULT = ("Neumann", 3)
# In the picture: the colours of Okabe and Ito, which colour-blind readers can tell apart, and a dash for each family.
SHOWN = {
    "CG": "#0072B2",
    "CG, metric": "#56B4E9",
    "CG, sketch of 512": "#000000",
    "WarmStart, CG": "#CC79A7",
    "Neumann": "#009E73",
    "original, best α": "#D55E00",
    "torchopt, solve_cg": "#E69F00",
    "hypergrad, CG": "#999999",
}
DASHES = {"ours": "-", "original": ":", "peer": "--"}


def _first(points: list[dict]) -> dict | None:
    index = reached(points)
    return None if index is None else points[index]


def _cost(methods: dict, names: list[str], key: str) -> tuple[float, str]:
    costs = [(point[key], name) for name in names if (point := _first(methods[name]["points"]))]
    return min(costs, default=(math.inf, "none"))


def _spent(methods: dict, names: list[str], key: str) -> float:
    # What the largest budgets have cost, of methods that have not reached the threshold.
    return max((methods[name]["points"][-1][key] for name in names), default=math.inf)


def _kinds(methods: dict) -> dict[str, list[str]]:
    def chosen(family: str, *, remembers: bool = False) -> list[str]:
        return [n for n, m in methods.items() if m["family"] == family and m["remembers"] == remembers]

    return {
        "ours": chosen("ours"),
        "ours, remembering": chosen("ours", remembers=True),
        "default series": [n for n in ("Neumann",) if n in methods],
        "original": [n for n in ("original, best α",) if n in methods],
        "peer": chosen("peer"),
    }


def _best(part: dict, kind: str, key: str = "gradients") -> tuple[float, str]:
    """Return the cost of the best method of a kind, with its name; infinite if none reaches the threshold."""
    return _cost(part["methods"], _kinds(part["methods"])[kind], key)


def _ratio(part: dict, kind: str, key: str = "gradients") -> str:
    """Say how many times what ours costs the best of a kind costs, or at least costs."""
    ours, other = _best(part, "ours", key)[0], _best(part, kind, key)[0]
    if not math.isfinite(ours):
        return "–"
    if math.isfinite(other):
        return f"{other / ours:.2f}"
    spent = _spent(part["methods"], _kinds(part["methods"])[kind], key)
    return f"> {spent / ours:.1f}" if math.isfinite(spent) else "–"


def _number(x: float) -> str:
    return "–" if not math.isfinite(x) else f"{x:.0f}" if x >= 100 else f"{x:.3g}"


def summary(found: dict[str, list[dict]]) -> str:
    """Say for each problem and method what a cosine of 0.99 costs, and how the best of each kind compare."""
    lines: list[str] = []
    for name, parts in found.items():
        steps = [p["step"] for p in parts]
        lines += ["", f"## {name}", ""]
        lines += [f"Step {p['step']}: {p['weights']:,} weights, main loss {p['main_loss']:.3f}; truth to a relative "
                  f"residual of {p['truth']['residual']:.0e} by {p['truth']['products']} products; a product costs "
                  f"{p['units']['product'] / p['units']['gradient']:.2f} gradients, the mixed product "
                  f"{p['units']['mixed'] / p['units']['gradient']:.2f}." for p in parts]  # fmt: skip
        lines += ["", f"Products / gradient equivalents / seconds for a cosine of {THRESHOLD} or, in brackets, the "
                  "largest cosine and its budget:", ""]  # fmt: skip
        lines += ["| method | " + " | ".join(f"step {s}" for s in steps) + " |", "|---" * (len(steps) + 1) + "|"]
        for method in dict.fromkeys(m for p in parts for m in p["methods"]):
            cells = [_cell(p["methods"].get(method)) for p in parts]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines += ["", "| | " + " | ".join(f"step {s}" for s in steps) + " |", "|---" * (len(steps) + 1) + "|"]
        lines += _ratio_rows(parts)
    return "\n".join(lines)


def _ratio_rows(parts: list[dict]) -> list[str]:
    def row(title: str, cells: list[str]) -> str:
        return f"| {title} | " + " | ".join(cells) + " |"

    named = {
        "ours, the best from scratch": "ours",
        "ours, the best that remembers": "ours, remembering",
        "best peer": "peer",
    }
    over = {
        "original, best α": "original",
        "best peer": "peer",
        "`Neumann`, as many terms as it takes": "default series",
    }
    lines = []
    for title, kind in named.items():
        best = [_best(p, kind) for p in parts]
        lines.append(row(f"{title}: gradients", [f"{name}: {_number(cost)}" for cost, name in best]))
    for unit in ("gradients", "products", "seconds"):
        lines += [row(f"{t} ÷ ours: {unit}", [_ratio(p, kind, unit) for p in parts]) for t, kind in over.items()]
    cosines = []
    for part in parts:
        points = part["methods"].get(DEFAULT[0], {}).get("points", [])
        cosines += [next((f"{p['cosine']:.3f}" for p in points if p["budget"] == DEFAULT[1]), "–")]
    return [*lines, row("cosine of the default, `Neumann(3)`", cosines)]


def _cell(method: dict | None) -> str:
    if method is None:
        return ""
    point = _first(method["points"])
    if point:
        return f"{point['products']} / {_number(point['gradients'])} / {point['seconds']:.2g}"
    best = max(method["points"], key=lambda p: p["cosine"] if math.isfinite(p["cosine"]) else -2)
    return f"({best['cosine']:.3f}, {best['budget']})"


def write(found: dict[str, list[dict]], out: Path, *, quick: bool) -> list[Path]:
    """Write ``frontier.json``, ``frontier.md`` and, where matplotlib is installed, ``frontier.png``."""
    files = [out / f"{'quick-' if quick else ''}frontier.{end}" for end in ("json", "md", "png")]
    files[0].write_text(json.dumps({"quick": quick, "problems": found}, indent=1))
    head = "# Distance from the truth, and cost"
    files[1].write_text(f"{head}{', on the small problems of --quick' if quick else ''}\n{summary(found)}\n")
    try:
        import matplotlib as mpl
    except ImportError:
        return files[:2]
    mpl.use("Agg")
    _picture(found, files[2])
    return files


def _picture(found: dict[str, list[dict]], file: Path) -> None:
    from matplotlib import pyplot as plt

    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(7 * columns, 4.6 * rows), squeeze=False)
    for axis, (name, parts) in zip(axes.flat, found.items(), strict=False):
        ends = []
        for method, colour in SHOWN.items():
            curve = _curve(parts, method)
            if not curve:
                continue
            x, y = zip(*curve, strict=True)
            family = parts[0]["methods"][method]["family"]
            axis.loglog(x, y, color=colour, ls=DASHES[family], lw=1.8, marker="o", ms=3)
            ends.append((math.log10(y[-1]), method, colour, x[-1], y[-1]))
        for method, mark in (("original, α = 1e-4", "X"), ("original, α = lr", "P")):
            for x, y in _curve(parts, method):
                axis.plot(x, y, mark, color="#D55E00", ms=9, mec="white")
                if mark == "P":  # both cost the same, and are in nearly the same place
                    text = "original's settings, both"
                    axis.annotate(text, (x, y), (5, 6), textcoords="offset points", fontsize=8, color="#D55E00")
        axis.axhline(1 - THRESHOLD, color="0.6", lw=0.8, zorder=0)
        axis.set(title=name, xlabel="cost in train gradients (matrix products and convolutions)", ylim=(FLOOR / 2, 3))
        axis.grid(alpha=0.25)
        _label(axis, ends)
    for row in axes:
        row[0].set_ylabel("1 − cosine to the truth, median over states")
    for axis in axes.flat[len(found) :]:
        axis.set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=90)
    plt.close(figure)


FLOOR = 1e-6


def _curve(parts: list[dict], method: str) -> list[tuple[float, float]]:
    # Medians over the states; a ladder that ended early stays where it was. A method that was not run at all of them is
    # not comparable.
    if not all(method in p["methods"] for p in parts):
        return []
    ladders = [[q for q in p["methods"][method]["points"] if "between" not in q] for p in parts]
    curve = []
    for rung in sorted({p["budget"] for ladder in ladders for p in ladder}):
        points = [next((p for p in ladder if p["budget"] == rung), ladder[-1]) for ladder in ladders]
        gaps = [1 - p["cosine"] if math.isfinite(p["cosine"]) else 2.0 for p in points]
        curve.append((median(p["gradients"] for p in points), max(median(gaps), FLOOR)))
    return curve


def _label(axis: Any, ends: list[tuple]) -> None:
    # Names stand at the right, in the order of the curves' ends, with a line to where the curve ends.
    low, high = (math.log10(y) for y in axis.get_ylim())
    places, gap = [], (high - low) / 18
    for height, *_ in sorted(ends):
        places.append(max(height, low + gap / 2, places[-1] + gap if places else low))
    shift = max(0.0, places[-1] - high + gap / 2) if places else 0.0
    for place, (_, name, colour, x, y) in zip(places, sorted(ends), strict=True):
        axis.annotate(
            name,
            (x, y),
            (1.02, (place - shift - low) / (high - low)),
            textcoords="axes fraction",
            color=colour,
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "alpha": 0.6},
            annotation_clip=False,
        )


def main() -> None:
    """Write the report of the parts in a folder."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "results/frontier")
    quick = "--quick" in sys.argv
    parts = [json.loads(f.read_text()) for f in (out / "parts").glob("*.json") if f.name.startswith("quick-") == quick]
    if not parts:
        raise SystemExit(f"There are no parts in {out}: run benchmarks/frontier/run.py first.")
    order = ("logistic", "mlp", "resnet", "transformer")
    found = {n: sorted((p for p in parts if p["problem"] == n), key=lambda p: p["step"]) for n in order}
    found = {n: p for n, p in found.items() if p}
    print(summary(found))
    for path in write(found, out, quick=quick):
        print(path)


if __name__ == "__main__":
    main()
