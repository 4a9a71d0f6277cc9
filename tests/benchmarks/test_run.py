"""The runner lists, keeps what has finished, and goes on when one fails."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import run
from adopted import frontier
from catalogue import Entry, present

ROOT = Path(__file__).parents[2]

TABLE = {"title": "t", "floor": "f", "columns": {"a": ".1f"}, "rows": [[1.0]], "notes": [], "ratios": []}
WRITES = f"""
import json, pathlib, sys
file = pathlib.Path(sys.argv[sys.argv.index("--json") + 1])
file.write_text(json.dumps({{"tables": [{TABLE!r}]}}))
with open(pathlib.Path(__file__).parent / "calls", "a") as calls:
    calls.write(" ".join(sys.argv[1:-1]) + "\\n")
"""


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name, code in {
        "good": WRITES,
        "bad": "raise RuntimeError('no such thing')",
        "empty": "import pathlib, sys; pathlib.Path(sys.argv[-1]).write_text('{}')",
        "silent": "",
        "slow": "import time; time.sleep(100)",
    }.items():
        (folder / f"{name}.py").write_text(code)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    return tmp_path


def entry(name: str) -> Entry:
    return Entry(name, name, f"{name}.py", cuda=True)


def measured(folder: Path, *names: str, limit: float = 60.0) -> list[run.Result]:
    entries = [entry(name) for name in names]
    return run.run(entries, quick=True, device="cpu", folder=folder / "kept", limit=limit)


def test_one_that_fails_stops_nobody(scripts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, empty, silent, good = measured(scripts, "bad", "empty", "silent", "good")
    assert bad.error == "RuntimeError: no such thing"
    assert empty.error == "it kept no tables"
    assert silent.error.startswith("what it kept cannot be read: FileNotFoundError")
    assert not good.error
    assert good.tables[0].rows == ((1.0,),)
    assert good.machine is not None
    assert good.machine.cores >= 1
    assert good.machine.device == "cpu"
    out = capsys.readouterr().out
    assert "bad: FAILED: RuntimeError: no such thing" in out
    assert "[4/4] good" in out


def test_one_with_a_folder_of_its_own_is_adopted(scripts: Path) -> None:
    def points(*cosines: float) -> list[dict[str, float]]:
        return [{"cosine": cosine, "gradients": 2.0 + k} for k, cosine in enumerate(cosines)]

    methods = {
        "CG": {"family": "ours", "remembers": False, "points": points(0.5, 0.995, 0.999)},
        "worse": {"family": "ours", "remembers": False, "points": points(0.995, float("nan"), 0.999)},
        "theirs": {"family": "peer", "remembers": False, "points": points(0.1, 0.2, 0.3, 0.99)},
        "old": {"family": "original", "remembers": False, "points": points(0.1, 0.2)},
    }
    data = {"problems": {"mlp": [{"step": 7, "methods": methods}]}}
    code = f"""
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
folder.mkdir()
(folder / "quick-frontier.json").write_text({json.dumps(data)!r})
"""
    (scripts / "benchmarks" / "frontier.py").write_text(code)
    given = replace(entry("frontier"), folder="--out", adopt=frontier)
    (found,) = run.run([given], quick=True, device="cpu", folder=scripts / "kept", limit=60.0)
    assert not found.error
    assert found.tables[0].rows == (
        ("7", "ours, the best", "CG", 3.0, 1.0),
        ("7", "the original, the best α", "", "never", None),
        ("7", "the best peer", "theirs", 5.0, 5 / 3),
    )
    assert [(r.value, r.against) for r in found.ratios] == [(0.6, "the best peer")]
    assert found.tables[0].notes == ("No ratio to the original, the best α: that never came so close.",)


def test_one_that_hangs_is_ended(scripts: Path) -> None:
    (slow,) = measured(scripts, "slow", limit=1.0)
    assert slow.error == "it took longer than 1 s"


def test_what_has_finished_is_kept_and_what_failed_is_tried_again(scripts: Path) -> None:
    first = measured(scripts, "good", "bad")
    (scripts / "benchmarks" / "bad.py").write_text(WRITES)
    again = measured(scripts, "good", "bad")
    assert (scripts / "benchmarks" / "calls").read_text().splitlines() == ["--quick --json"] * 2
    assert again[0] == first[0]
    assert not again[1].error


def test_a_script_is_asked_for_what_it_can() -> None:
    assert entry("x").command(quick=True, device="cuda") == ["benchmarks/x.py", "--quick", "--device", "cuda"]
    assert replace(entry("x"), cuda=False).command(quick=False) == ["benchmarks/x.py"]
    assert {e.name for e in present("cuda")} < {e.name for e in present()}
    assert [e.name for e in present(only=["peak"])] == ["peak"]


def started(*words: str, code: int = 0) -> str:
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_the_list_names_each_with_what_it_measures() -> None:
    lines = started("benchmarks/run.py", "--list").splitlines()
    assert [line.split()[0] for line in lines] == [e.name for e in present()]
    assert all(entry.texts()[0] in line for entry, line in zip(present(), lines, strict=True))


def test_what_cannot_run_is_refused() -> None:
    assert "--list says who can" in started("benchmarks/run.py", "--device", "cuda", "--only", "memory", code=2)
    assert "invalid choice" in started("benchmarks/run.py", "--only", "nothing", code=2)


def test_each_script_explains_itself() -> None:
    assert "--quick" in started("benchmarks/bench_peak.py", "--help")
    assert "cuda for a GPU" in started("benchmarks/bench_peak.py", "--help")


def test_a_benchmark_runs_alone_and_through_the_runner(tmp_path: Path) -> None:
    out = tmp_path / "measured.json"
    printed = started("benchmarks/run.py", "--only", "precision", "--out", str(out))
    (result,) = json.loads(out.read_text("utf-8"))["results"]
    assert result["quick"]
    assert not result["error"]
    assert {r["name"].rpartition(" ")[2] for r in result["tables"][0]["ratios"]} == {"float32", "bf16", "fp16"}
    assert "In short:\n  precision  relative error of the default in float32" in printed
    assert "## Precision" in out.with_suffix(".md").read_text("utf-8")


def test_the_page_about_ranks_has_what_is_computed() -> None:
    computed = started("benchmarks/bench_scaling.py", "--computed").strip()
    assert f"```text\n{computed}\n```" in (ROOT / "docs" / "scaling.md").read_text("utf-8")
