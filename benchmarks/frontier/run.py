"""How far a hypergradient is from the truth, against what it cost, along real trainings.

``python benchmarks/frontier/run.py --quick`` takes less than a minute of one core, the whole comparison about half an
hour. Each method at each state is kept below ``--out`` as soon as it is done, so that an interrupted comparison goes on
where it was and a new method is added to an old one. Runs are in float64, on one thread.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from measure import Units, bisected, climbed
from methods import Method
from ours import OURS
from peers import ORIGINAL, peers
from problems import PROBLEMS
from report import summary, write
from state import State, states

READING = """Small problems and one state of training each: the page on how to choose a solver has the full run. What a
sketch of the curvature costs is counted, and on networks so small it costs more than it saves; in products it wins."""


class Part:
    """The results at one state, in a file of their own."""

    def __init__(self, name: str, state: State, out: Path, *, quick: bool) -> None:
        self.file = out / "parts" / f"{'quick-' if quick else ''}{name}-{state.step}.json"
        known = json.loads(self.file.read_text()) if self.file.exists() else {}
        # Another version of torch, or other data, is another state.
        mark = [float(state.v.norm()), float((state.operator @ state.v).norm())]
        same = known and all(abs(a - b) <= 1e-9 * abs(b) for a, b in zip(known["mark"], mark, strict=True))
        if not same:
            exact, residual, products = state.truth
            units = Units.of(state)
            known = {
                "problem": name,
                "step": state.step,
                "weights": sum(p.numel() for p in state.params),
                "main_loss": float(state.losses[0].detach()),
                "mark": mark,
                "truth": {"hypergradient": exact.tolist(), "residual": residual, "products": products},
                "units": vars(units),
                "methods": {},
            }
        else:
            truth = known["truth"]
            exact = torch.tensor(truth["hypergradient"], dtype=torch.float64)
            state.truth = exact, truth["residual"], truth["products"]
        self.known, self.units = known, Units(**known["units"])
        self.save()

    def add(self, state: State, method: Method, *, again: bool) -> bool:
        """Measure a method, unless it is known; say whether anything was measured."""
        known = self.known["methods"]
        before = "" if again else json.dumps(known.get(method.name))
        if again or method.name not in known:
            settings = {"family": method.family, "budget": method.budget, "remembers": method.remembers}
            known[method.name] = {**settings, "points": climbed(state, method, self.units)}
            self.save()
        if method.bisects and not state.problem.quick:
            found = known[method.name]
            found["points"] = bisected(state, method, self.units, found["points"])
            self.save()
        return before != json.dumps(known[method.name])

    def save(self) -> None:
        """Write the file in one piece."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(self.known))
        part.replace(self.file)


def compare(name: str, methods: list[Method], *, quick: bool, again: bool, out: Path) -> list[dict]:
    """Measure the methods at every state of one problem."""
    start, found = time.perf_counter(), []
    for state in states(PROBLEMS[name](quick=quick)):
        part = Part(name, state, out, quick=quick)
        truth = part.known["truth"]
        print(
            f"{name}, step {state.step}: {part.known['weights']} weights, main loss {part.known['main_loss']:.3f}; "
            f"the truth took {truth['products']} products, residual {truth['residual']:.0e}",
            flush=True,
        )
        for k, method in enumerate(methods):
            measured = part.add(state, method, again=again)
            best = max(p["cosine"] for p in part.known["methods"][method.name]["points"])
            took = f"{time.perf_counter() - start:7.0f} s" if measured else "    kept "
            print(f"{took}  {k + 1:>2} of {len(methods)}  {method.name:<28} best cosine {best:.4f}", flush=True)
        found.append(part.known)
    return found


def main() -> None:
    """Run the comparison asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    methods = {m.name: m for m in [*OURS, *ORIGINAL, *peers()]}
    parser.add_argument("--quick", action="store_true", help="smaller problems and one state each")
    parser.add_argument("--problem", choices=list(PROBLEMS), action="append", help="one problem; may be repeated")
    parser.add_argument("--method", choices=list(methods), action="append", help="one method; may be repeated")
    parser.add_argument("--again", action="store_true", help="measure the methods anew, even where they are known")
    parser.add_argument("--out", type=Path, default=Path("results/frontier"), help="where results and report are kept")
    given = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [methods[name] for name in given.method or methods]
    found = {
        name: compare(name, chosen, quick=given.quick, again=given.again, out=given.out)
        for name in given.problem or list(PROBLEMS)
    }
    print(summary(found))
    for path in write(found, given.out, quick=given.quick):
        print(path)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
