"""Which benchmarks there are, in the order of the page, and what each says of itself."""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import adopted
from benchmark import Table

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """A script that measures something, in a process of its own.

    Attributes:
        name: What it is called here.
        title: The heading of its section.
        file: The script, below ``benchmarks/``.
        cuda: Whether it takes ``--device cuda``.
        folder: The option for a folder of its own, if it needs one.
        adopt: Makes tables of what is in that folder, for a script that has no ``--json``.
    """

    name: str
    title: str
    file: str
    cuda: bool = False
    folder: str = ""
    adopt: Callable[[Path, bool], list[Table]] | None = None

    @property
    def path(self) -> Path:
        """Return where the script is."""
        return HERE / self.file

    def command(self, *, quick: bool, device: str = "cpu") -> list[str]:
        """Return the words after ``python``, from the root of the repository."""
        words = [f"benchmarks/{self.file}"]
        return words + ["--quick"] * quick + (["--device", device] if device != "cpu" else [])

    def texts(self) -> tuple[str, str]:
        """Return what it measures and how to read it, from the script's source: nothing is imported."""
        tree = ast.parse(self.path.read_text(encoding="utf-8"))
        reading = ""
        for node in tree.body:
            if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["READING"]:
                reading = ast.literal_eval(node.value)
        about = ast.get_docstring(tree) or ""
        return _one_line(about.partition("\n\n")[0]), _one_line(reading)


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


ENTRIES = (
    Entry("overhead", "The cost of a hypergradient", "bench_overhead.py", cuda=True),
    Entry("compiled", "Compiled products", "bench_compiled.py", cuda=True),
    Entry("peak", "The memory of an outer step", "bench_peak.py", cuda=True),
    Entry("memory", "The memory of many outer steps and of many batches", "bench_memory.py"),
    Entry("precision", "Precision", "bench_precision.py"),
    Entry("scaling", "Several processes", "bench_scaling.py"),
    Entry("accuracy", "Accuracy", "bench_accuracy.py"),
    Entry("bilevel", "Stochastic bilevel problems", "bilevel/run.py", folder="--out"),
    Entry("frontier", "Accuracy against cost", "frontier/run.py", folder="--out", adopt=adopted.frontier),
)


def present(device: str = "cpu", only: Sequence[str] = ()) -> list[Entry]:
    """Return the benchmarks whose scripts are here and that take a device."""
    return [e for e in ENTRIES if e.path.exists() and (device == "cpu" or e.cuda) and (not only or e.name in only)]
