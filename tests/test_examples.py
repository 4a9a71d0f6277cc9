"""The examples run, and show what they say."""

import re
from pathlib import Path
from runpy import run_path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_plain_loop_finds_the_good_annotator() -> None:
    weights = run_path(str(ROOT / "examples" / "plain_loop.py"))["main"]()
    assert weights["good annotator"] > 1.5
    assert weights["random annotator"] < 0.8


def test_learned_penalties_lower_the_outer_loss() -> None:
    history = run_path(str(ROOT / "examples" / "learned_penalties.py"))["main"]()
    assert history[-1] < 0.9 * history[0]


@pytest.mark.parametrize("number", [0])
def test_the_code_of_the_readme_runs(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    exec(compile(blocks[number], "README.md", "exec"), {})
    assert "The hypergradient is right." in capsys.readouterr().out
