"""The frontier benchmark runs, resumes, and orders the solvers as the theory does."""

import json
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

ROOT = Path(__file__).parents[2]
RUN = ROOT / "benchmarks" / "frontier" / "run.py"


def run(out: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(RUN), "--quick", "--problem", "logistic", "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("frontier")
    run(out)
    return out


@pytest.fixture(scope="module")
def methods(folder: Path) -> dict[str, list[dict[str, float]]]:
    (part,) = json.loads((folder / "quick-frontier.json").read_text())["problems"]["logistic"]
    assert part["truth"]["residual"] < 1e-9
    return {name: method["points"] for name, method in part["methods"].items()}


def test_conjugate_gradients_come_to_the_truth(methods: dict[str, list[dict[str, float]]]) -> None:
    for name in ("CG", "CG, metric"):
        assert methods[name][-1]["cosine"] > 0.999
        assert methods[name][-1]["error"] < 0.05


def test_more_terms_of_the_series_are_nearer(methods: dict[str, list[dict[str, float]]]) -> None:
    errors = [p["error"] for p in methods["Neumann"]]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_the_best_step_in_hindsight_is_no_worse_than_the_settings(methods: dict[str, list[dict[str, float]]]) -> None:
    (best,) = [p for p in methods["original, best α"] if p["budget"] == 3]
    for name in ("original, α = 1e-4", "original, α = lr"):
        (point,) = methods[name]
        assert point["products"] == 3
        assert best["cosine"] >= point["cosine"] - 1e-9


def test_the_costs_are_those_of_the_products(methods: dict[str, list[dict[str, float]]]) -> None:
    # Of a linear network a product with the Hessian costs what a gradient does, and the mixed product half.
    for point in methods["CG"]:
        assert math.isclose(point["gradients"], point["products"] + 0.5, rel_tol=1e-9)
        assert point["products"] == point["budget"]
    assert [p["products"] for p in methods["Neumann"]] == [p["budget"] + 1 for p in methods["Neumann"]]


def test_peers_that_are_installed_agree_with_ours(methods: dict[str, list[dict[str, float]]]) -> None:
    for name in ("torchopt, solve_inv, best α", "hypergrad, Neumann, best α", "betty, neumann, best α"):
        for point in methods.get(name, []):
            same = [p["cosine"] for p in methods["original, best α"] if p["budget"] == point["budget"]]
            assert math.isclose(point["cosine"], same[0], abs_tol=1e-9)
    for point in methods.get("torchopt, solve_cg", []):
        same = [p["error"] for p in methods["CG"] if p["budget"] == point["budget"]]
        assert math.isclose(point["error"], same[0], rel_tol=1e-3, abs_tol=1e-6)


def inside(code: str, *arguments: str) -> list[str]:
    # In a process of its own, for other benchmarks have modules of the same names.
    path = os.pathsep.join([str(RUN.parent), str(ROOT / "src")])
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_reached_means_for_good() -> None:
    cases = {"0.5 0.995 0.999": 1, "0.995 0.5 0.999": 2, "0.999 0.98": None, "0.999 nan": None, "1": 0}
    said = inside(
        """
        import sys
        from measure import reached
        for case in sys.argv[1:]:
            print(reached([{"cosine": float(c)} for c in case.split()]))
        """,
        *cases,
    )
    assert said == [str(index) for index in cases.values()]


def test_solvers_that_look_back_leave_the_training_alone() -> None:
    said = inside(
        """
        from problems import Logistic
        from state import Training, states
        class Twice(Logistic):
            def __init__(self):
                super().__init__(quick=True)
                self.steps = (12, 30, 50)
        problem = Twice()
        alone = Training(problem)
        for state in states(problem):
            alone.advance(state.step)
            list(state.before(range(1, 10)))
            state.trail
            pairs = zip(state.model.parameters(), alone.model.parameters(), strict=True)
            moments = [[t for s in o.state.values() for t in s.values()] for o in (state.optimizer, alone.optimizer)]
            print(all(a.equal(b) for a, b in [*pairs, *zip(*moments, strict=True)]))
        """
    )
    assert said == ["True"] * 3


def test_states_before_are_those_of_the_training() -> None:
    said = inside(
        """
        from problems import Logistic
        from state import Training, states
        problem = Logistic(quick=True)
        (state,) = states(problem)
        alone = Training(problem)
        for earlier in state.before((10, 5)):
            alone.advance(earlier.step)
            print(earlier.step, all(a.equal(b) for a, b in zip(earlier.params, alone.model.parameters(), strict=True)))
        """
    )
    assert said == ["20", "True", "25", "True"]


def test_what_is_there_is_kept(folder: Path) -> None:
    said = run(folder, "--method", "CG", "--method", "Identity")
    assert said.count("kept") == 2
    assert "## logistic" in (folder / "quick-frontier.md").read_text()
