"""Numbers as JSON and Markdown, curves as a picture."""

import json
import math
from pathlib import Path
from statistics import median

from benchmark import Ratio, Table

KEYS = ("value", "gradient", "distance", "test_error")
NAMES = {
    "value": "outer loss at the inner optimum",
    "gradient": "‖gradient of the value function‖²",
    "distance": "‖W − W*(φ)‖²",
    "test_error": "test error",
}


def write(found: dict, scores: dict[str, str], out: Path, *, budget: float, quick: bool) -> list[Path]:
    """Write ``report.json``, ``report.md`` and, where matplotlib is installed, ``report.png``."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "report.json", out / "report.md"]
    files[0].write_text(json.dumps({"budget": budget, "quick": quick, "score": scores, "tasks": found}, indent=1))
    files[1].write_text(_markdown(found, scores, budget, quick))
    try:
        import matplotlib as mpl
    except ImportError:
        return files
    mpl.use("Agg")
    return [*files, _picture(found, scores, out / "report.png")]


def tables(found: dict, scores: dict[str, str], budget: float) -> list[Table]:
    """Sum up each task: what the methods were tuned for, at the end, and as a ratio to the best baseline."""
    summed: list[Table] = []
    for task, methods in found.items():
        key = scores[task]
        ends = {name: _at_the_end(result["curves"], key)[0] for name, result in methods.items()}
        others = {name: end for name, end in ends.items() if not name.startswith("ours")}
        mine = {name: end for name, end in ends.items() if name not in others}
        best = min(others, key=others.__getitem__, default=None)
        ratio = {name: end / others[best] if best else None for name, end in ends.items()}
        rows = [
            (name, r["step"], r["ratio"], ends[name], _at_the_end(r["curves"], "seconds")[0], ratio[name])
            for name, r in methods.items()
        ]
        columns = {"method": "", "step": "g", "inner to outer": "g", NAMES[key]: ".3e", "seconds": ".2f"}
        floor, ratios = f"the best of {', '.join(others)}: {best}", []
        if best and mine:
            ours = min(mine, key=mine.__getitem__)
            ratios = [
                Ratio(f"{NAMES[key]}, {task}, the best of ours: {ours.removeprefix('ours: ')}", ratio[ours], best)
            ]
        title = f"{task}, after {budget:g} derivatives of batches of 64 rows"
        summed.append(Table(title, floor, {**columns, "ratio": ".3f"}, tuple(rows), ratios=tuple(ratios)))
    return summed


def _at_the_end(curves: list[list[dict[str, float]]], key: str) -> tuple[float, float, float]:
    last = [c[-1].get(key, math.nan) for c in curves]
    return median(last), min(last), max(last)


def _markdown(found: dict, scores: dict[str, str], budget: float, quick: bool) -> str:
    lines = [
        "# Stochastic bilevel problems",
        "",
        f"After {budget:g} derivatives of batches of 64 rows{', on the small data of `--quick`' if quick else ''}: "
        "median over seeds, in brackets the smallest and the largest. Each method was tuned over the same settings on "
        "another seed; *edge* says that its best step was the largest or the smallest of them.",
    ]
    for task, methods in found.items():
        keys = [k for k in KEYS if k in next(iter(methods.values()))["curves"][0][0]]
        lines += ["", f"## {task}, tuned for `{scores[task]}`", ""]
        lines += ["| method | step | ratio | " + " | ".join(NAMES[k] for k in keys) + " | seconds |"]
        lines += ["|---" * (len(keys) + 4) + "|"]
        for name, result in methods.items():
            cells = []
            for key in keys:
                middle, low, high = _at_the_end(result["curves"], key)
                cells.append(f"{middle:.3e} ({low:.1e}, {high:.1e})")
            step = f"{result['step']:g}" + (" (edge)" if result["at_the_edge"] else "")
            seconds = _at_the_end(result["curves"], "seconds")[0]
            lines.append(f"| {name} | {step} | {result['ratio']:g} | " + " | ".join(cells) + f" | {seconds:.2f} |")
    return "\n".join([*lines, ""])


def _picture(found: dict, scores: dict[str, str], file: Path) -> Path:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(found), 2, figsize=(11, 3.4 * len(found)), squeeze=False, sharey="row")
    for row, (task, methods) in zip(axes, found.items(), strict=True):
        key = scores[task]
        every = [p[key] for m in methods.values() for c in m["curves"] for p in c if math.isfinite(p[key])]
        # Values of a loss are shown above the best that any method met.
        floor = min(every) if key == "value" else 0.0
        for axis, x in zip(row, ("calls", "seconds"), strict=True):
            for k, (name, result) in enumerate(methods.items()):
                points = list(zip(*result["curves"], strict=False))
                xs = [median(p[x] for p in point) for point in points]
                ys = [[p[key] - floor for p in point] for point in points]
                axis.plot(
                    xs, [median(y) for y in ys], color=f"C{k}", ls="-" if name.startswith("ours") else "--", label=name
                )
                axis.fill_between(xs, [min(y) for y in ys], [max(y) for y in ys], color=f"C{k}", alpha=0.12, lw=0)
            axis.set(yscale="log", xlabel="derivatives of batches of 64" if x == "calls" else "seconds", title=task)
            axis.grid(alpha=0.3)
        row[0].set_ylabel(NAMES[key] + (" − best" if key == "value" else ""))
    axes[0, 1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=130)
    plt.close(figure)
    return file
