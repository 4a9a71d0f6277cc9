"""What a benchmark measured: tables and the ratios that sum them up, where and when; as text and as JSON."""

import math
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

Cell = str | float | None


@dataclass(frozen=True)
class Ratio:
    """One number of a benchmark's summary.

    Attributes:
        name: What was measured.
        value: How many times as much as ``against``.
        against: The floor or the peer, measured by the same run.
        goal: What the ratio should at most be, where the project has such an aim.
    """

    name: str
    value: float
    against: str
    goal: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"The ratio of {self.name} to {self.against} is {self.value}.")

    def met(self, *, busy: bool) -> str:
        """Say whether the aim is met, if there is one, and if the machine was quiet enough to tell."""
        if self.goal is None:
            return ""
        return f"≤ {self.goal:g}: {'not judged' if busy else 'met' if self.value <= self.goal else 'not met'}"


@dataclass(frozen=True)
class Table:
    """Numbers in rows.

    Attributes:
        title: What was measured, on what.
        floor: What the ratios in it are relative to.
        columns: Their names, each with the format of its numbers.
        rows: A cell for each column; None is an empty one.
        notes: Sentences that are computed from the numbers.
        ratios: The summary.
    """

    title: str
    floor: str
    columns: Mapping[str, str]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    ratios: tuple[Ratio, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: {len(row)} cells for {len(self.columns)} columns: {row}")

    def cells(self) -> list[list[str]]:
        """Return the rows as they are shown."""
        return [[_shown(c, f) for c, f in zip(row, self.columns.values(), strict=True)] for row in self.rows]

    def __str__(self) -> str:
        lines = [list(self.columns), *self.cells()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        sides = ["<" if not f else ">" for f in self.columns.values()]
        shown = ["  ".join(f"{c:{s}{w}}" for c, s, w in zip(line, sides, widths, strict=True)) for line in lines]
        head = f"{self.title}; against {self.floor}" if self.floor else self.title
        return "\n".join([head, *(line.rstrip() for line in shown), *self.notes])


def _shown(cell: Cell, form: str) -> str:
    if cell is None:
        return ""
    return cell if isinstance(cell, str) else format(cell, form)


@dataclass(frozen=True)
class Machine:
    """Where a benchmark ran; ``load`` is the system's mean of a minute, before and after."""

    device: str
    cpu: str
    cores: int
    threads: int
    torch: str
    date: str
    load: tuple[float, float]

    @property
    def busy(self) -> bool:
        """Whether others took so much of it that ratios of time say little."""
        return self.load[0] > 1.5 * self.cores

    @staticmethod
    def here(device: str, load_before: float) -> "Machine":
        """Look at this process and its machine."""
        import torch

        gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
        threads, today = torch.get_num_threads(), date.today().isoformat()
        return Machine(gpu, cpu_name(), cores(), threads, torch.__version__, today, (load_before, load()))


def load() -> float:
    """Return how many processes wanted to run, the system's mean over a minute."""
    return round(os.getloadavg()[0], 2)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """Return the processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return re.sub(r"\((R|TM)\)", "", found[1]).strip() if found else platform.processor() or platform.machine()


@dataclass(frozen=True)
class Result:
    """What a run of a benchmark gave: tables, or the error that it ended with.

    Attributes:
        name: The benchmark.
        device: What it was asked for, ``cpu`` or ``cuda``.
        quick: Whether fewer sizes and repetitions were measured.
        seconds: How long it took.
        tables: What it measured.
        machine: Where.
        error: What it ended with, if it failed.
    """

    name: str
    device: str
    quick: bool
    seconds: float
    tables: tuple[Table, ...] = ()
    machine: Machine | None = None
    error: str = field(default="", kw_only=True)

    @property
    def ratios(self) -> list[Ratio]:
        """Return the summary of all tables."""
        return [ratio for table in self.tables for ratio in table.ratios]

    def as_json(self) -> dict[str, Any]:
        """Return it as numbers, strings, lists and dictionaries; what is not finite becomes a string."""
        data = asdict(self)
        for table in data["tables"]:
            table["rows"] = [[_strict(cell) for cell in row] for row in table["rows"]]
        return data

    @staticmethod
    def of_json(data: dict[str, Any]) -> "Result":
        """Undo :meth:`as_json`; of another script, the tables will do."""
        at: dict[str, Any] | None = data.get("machine")
        machine = None if at is None else replace(Machine(**at), load=(at["load"][0], at["load"][1]))
        tables = tuple(_table(table) for table in data.get("tables", ()))
        name, device, quick, seconds = (data[key] for key in ("name", "device", "quick", "seconds"))
        return Result(name, device, quick, seconds, tables, machine, error=data.get("error", ""))


def _strict(cell: Cell) -> Cell:
    return str(cell) if isinstance(cell, float) and not math.isfinite(cell) else cell


def _table(data: dict[str, Any]) -> Table:
    rows, ratios = tuple(tuple(row) for row in data["rows"]), tuple(Ratio(**r) for r in data["ratios"])
    return Table(data["title"], data["floor"], data["columns"], rows, tuple(data["notes"]), ratios)
