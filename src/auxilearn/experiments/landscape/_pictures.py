"""The pictures of the landscape experiment: contours of the loss before and after, and how it moves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from auxilearn._extras import require
from auxilearn.experiments.harness._experiment import Table

# Colour-blind safe (Okabe and Ito), and a marker each.
_TRUE, _MAIN, _HARMFUL, _COMBINED, _PATH = "#009E73", "#0072B2", "#D55E00", "#000000", "#CC79A7"
_GRID = 161
_LEVELS = 14


class _Course(NamedTuple):
    path: Tensor  # (frames, 2), the trained weights
    course: Tensor  # (frames, 2), the weights of the auxiliary losses
    truth: Tensor  # (2,)
    forms: list[tuple[Tensor, Tensor, float]]  # A, b, c of the main, the helpful and the harmful loss

    def combined(self, weights: Tensor) -> tuple[Tensor, Tensor, float]:
        parts = list(zip((1.0, *map(float, weights)), self.forms, strict=True))
        a = torch.stack([k * form[0] for k, form in parts]).sum(0)
        b = torch.stack([k * form[1] for k, form in parts]).sum(0)
        return a, b, sum(k * form[2] for k, form in parts)


def draw_landscape(table: Table, file: Path) -> None:
    """Draw the first seed of the learned method: three panels into the file, and an animation (GIF) beside it.

    Args:
        table: The results.
        file: Where the picture goes; the animation has the same name with the ending ``.gif``.
    """
    results = [found for methods in table.values() for found in methods.get("learned", {}).values()]
    if not results:
        return
    course = _read(results[0].details)
    _panels(course, file)
    _animation(course, file.with_suffix(".gif"))


def _read(details: Mapping[str, Any]) -> _Course:
    path, moving, truth = (torch.tensor(details[key]) for key in ("path", "course", "truth"))
    forms = [(torch.tensor(a), torch.tensor(b), float(c)) for a, b, c in details["forms"]]
    return _Course(path, moving, truth, forms)


def _panels(course: _Course, file: Path) -> None:
    figures: Any = require("matplotlib.figure", extra="experiments")
    figure = figures.Figure(figsize=(12.6, 5.3), layout="constrained")
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    start, end = course.course[0], course.course[-1]
    titles = (
        "main loss, a few noisy samples",
        f"combined loss at the start\nhelpful × {start[0]:.1f}, harmful × {start[1]:.1f}",
        f"combined loss at the end\nhelpful × {end[0]:.1f}, harmful × {end[1]:.2f}",
    )
    forms = (course.forms[0], course.combined(start), course.combined(end))
    for panel, form, title in zip(panels, forms, titles, strict=True):
        _contours(panel, form, course)
        _marks(panel, course)
        panel.set(title=title, xlabel="$W_1$")
    panels[0].set_ylabel("$W_2$")
    for panel, form in zip(panels[1:], forms[1:], strict=True):
        _minimum(panel, form)
    _walk(panels[2], course.path)
    handles, labels = panels[2].get_legend_handles_labels()
    figure.get_layout_engine().set(h_pad=0.12)
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(file, dpi=150)


def _animation(course: _Course, file: Path) -> None:
    figures: Any = require("matplotlib.figure", extra="experiments")
    animation: Any = require("matplotlib.animation", extra="experiments")
    agg: Any = require("matplotlib.backends.backend_agg", extra="experiments")
    figure = figures.Figure(figsize=(9.2, 4.4), layout="constrained")
    agg.FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    last = len(course.path) - 1

    def frame(i: int) -> None:
        left.clear()
        right.clear()
        form = course.combined(course.course[i])
        _contours(left, form, course)
        _marks(left, course)
        _minimum(left, form)
        _walk(left, course.path[: i + 1])
        left.set(title="combined loss", xlabel="$W_1$", ylabel="$W_2$")
        _weights(right, course.course[: i + 1], last, top=float(course.course.max()))

    # A pause at the end, so that the outcome can be seen.
    frames = [*range(last + 1), *[last] * 12]
    film = animation.FuncAnimation(figure, frame, frames=frames, init_func=lambda: None)
    film.save(file, writer=animation.PillowWriter(fps=10), dpi=80)


def _weights(panel: Any, course: Tensor, last: int, *, top: float) -> None:
    for k, (name, colour, style) in enumerate((("helpful", _TRUE, "-"), ("harmful", _HARMFUL, "--"))):
        panel.plot(range(len(course)), course[:, k].tolist(), color=colour, ls=style, lw=2.5, label=name)
    panel.axhline(1, color="0.6", lw=0.8, ls=":")
    panel.set(
        title="weight of each auxiliary loss",
        xlabel="training",
        xticks=[],
        yscale="log",
        xlim=(0, last),
        ylim=(0.01, 1.3 * max(top, 1.0)),
    )
    panel.legend(frameon=False, loc="lower left")
    panel.spines[["top", "right"]].set_visible(False)


def _window(course: _Course) -> tuple[Tensor, Tensor]:
    # Everything that is marked lies inside, in a square with a margin.
    optima = torch.stack([_solve(form) for form in course.forms])
    seen = torch.cat([course.path, optima, course.truth[None]])
    low, high = seen.min(0).values, seen.max(0).values
    half = 0.5 * float((high - low).max()) + 0.7
    middle = (low + high) / 2
    return middle - half, middle + half


def _contours(panel: Any, form: tuple[Tensor, Tensor, float], course: _Course) -> None:
    low, high = _window(course)
    axes = [torch.linspace(float(low[i]), float(high[i]), _GRID) for i in range(2)]
    u, v = torch.meshgrid(*axes, indexing="xy")
    a, b, c = form
    w = torch.stack([u, v], -1)
    loss = torch.einsum("...i,ij,...j->...", w, a, w) - 2 * w @ b + c
    # Above the minimum and on a square-root scale, so that the levels are evenly spaced on a parabola.
    height = (loss - loss.min()).clamp(min=0).sqrt()
    levels = [float(height.max()) * i / (_LEVELS - 1) for i in range(_LEVELS)]
    panel.contourf(*(t.numpy() for t in (u, v, height)), levels=levels, cmap="Blues_r", alpha=0.85)
    panel.contour(*(t.numpy() for t in (u, v, height)), levels=levels, colors="white", linewidths=0.6)
    panel.set(xlim=(float(low[0]), float(high[0])), ylim=(float(low[1]), float(high[1])), aspect="equal")


def _marks(panel: Any, course: _Course) -> None:
    kinds = {
        "true optimum": (course.truth, "*", _TRUE, 320),
        "minimum of the main loss": (_solve(course.forms[0]), "s", _MAIN, 70),
        "minimum of the harmful loss": (_solve(course.forms[2]), "X", _HARMFUL, 110),
    }
    for name, (at, marker, colour, size) in kinds.items():
        panel.scatter(
            *at.tolist(), marker=marker, color=colour, s=size, edgecolor="white", lw=1.2, zorder=4, label=name
        )


def _minimum(panel: Any, form: tuple[Tensor, Tensor, float]) -> None:
    label = "minimum of the combined loss"
    panel.scatter(*_solve(form).tolist(), marker="P", color=_COMBINED, s=110, edgecolor="white", zorder=5, label=label)


def _walk(panel: Any, path: Tensor) -> None:
    panel.plot(*path.T.tolist(), color="white", lw=3.4, zorder=2)
    panel.plot(*path.T.tolist(), color=_PATH, lw=1.8, zorder=3, label="path of $W$")
    panel.scatter(*path[-1].tolist(), color=_PATH, edgecolor="white", s=55, zorder=6)


def _solve(form: tuple[Tensor, Tensor, float]) -> Tensor:
    return cast("Tensor", torch.linalg.solve(form[0], form[1]))
