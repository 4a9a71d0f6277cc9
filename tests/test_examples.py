"""The examples run, and show what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest
import torch

from auxilearn.data import few_labels, sklearn_digits
from auxilearn.training import Problem, Trainer
from auxilearn.weighting import MainOnly

ROOT = Path(__file__).parent.parent


def test_the_plain_loop_finds_the_good_annotator() -> None:
    weights = run_path(str(ROOT / "examples" / "plain_loop.py"))["main"]()
    assert weights["good annotator"] > 1.5
    assert weights["random annotator"] < 0.8


def test_the_loop_in_float16_finds_the_good_annotator_from_a_scale_that_overflows() -> None:
    weights = run_path(str(ROOT / "examples" / "amp_loop.py"))["main"](init_scale=2.0**24)
    assert weights["good annotator"] > 1.5
    assert weights["random annotator"] < 0.8


def test_learned_penalties_lower_the_outer_loss() -> None:
    history = run_path(str(ROOT / "examples" / "learned_penalties.py"))["main"]()
    assert history[-1] < 0.9 * history[0]


def launched(ranks: int, *words: str) -> str:
    """Run the example for several ranks by torchrun, and return what it printed."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    done = subprocess.run(
        [*launcher, str(ROOT / "examples" / "ddp_loop.py"), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_loop_for_several_ranks_is_that_of_one_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    if not torch.distributed.is_available():
        pytest.skip("torch is built without torch.distributed")
    folder = str(tmp_path)
    whole = launched(1, "--steps", "60")
    assert "good annotator" in whole
    launched(1, "--steps", "30", "--folder", folder)
    # One network on one rank goes on as copies on two; and where torch can shard on the CPU, as shards.
    assert launched(2, "--steps", "60", "--folder", folder) == whole
    if hasattr(torch.cpu.current_stream(), "record_event"):
        (tmp_path / "last").write_text("step-30")
        assert launched(2, "--steps", "60", "--folder", folder, "--shard") == whole


def blocks(language: str, page: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


PAGES = ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks("python", page)])
def test_the_python_blocks_of_the_pages_run(page: str) -> None:
    for block in blocks("python", page):
        exec(compile(block, page, "exec"), {"__name__": "page", "problem": small_problem(), **few_labelled_digits()})


def small_problem() -> Problem:
    x = torch.randn(40, 3)
    return Problem(
        torch.nn.Linear(3, 3),
        lambda model, batch: (model(batch[0]) - batch[0]).square(),
        data=(x,),
        labelled=torch.arange(20),
    )


def few_labelled_digits() -> dict[str, torch.Tensor]:
    """Return what a reader of the pages has: 50 images with a class, and 1,000 with ten attributes only."""
    images = sklearn_digits(side=8)
    split = few_labels(images.classes, seed=0, per_class=5, pool=1000)
    rows = torch.cat([split.main, split.pool])
    y = images.classes[rows].clone()
    attributes = torch.stack([(y >> bit) % 2 for bit in range(4)] + [y == digit for digit in range(6)], 1).float()
    y[50:] = -1
    test = images.pixels[split.test].flatten(1), images.classes[split.test]
    return {"x": images.pixels[rows].flatten(1), "y": y, "attributes": attributes, "test_x": test[0], "test_y": test[1]}


def test_the_fit_of_the_readme_is_short_and_beats_the_main_loss_alone() -> None:
    block = blocks("python", "README.md")[0]
    assert len([line for line in block.splitlines() if line.strip()]) <= 15
    world = few_labelled_digits()
    torch.manual_seed(0)
    exec(compile(block, "README.md", "exec"), world)
    fit, problem = world["fit"], world["problem"]
    alone = Trainer(problem, MainOnly()).fit()

    def accuracy(model: torch.nn.Module) -> float:
        return float((model(world["test_x"])[:, :10].argmax(1) == world["test_y"]).float().mean())

    assert fit.verdict.chosen != "main only"
    assert accuracy(fit.model) > accuracy(alone.model) + 0.02


def test_the_check_of_the_readme_says_that_all_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("python", "README.md")[1], "README.md", "exec"), {})
    assert "The hypergradient is right." in capsys.readouterr().out


def test_the_loop_of_the_readme_runs_with_its_added_lines_and_moves_the_weights() -> None:
    (diff,) = blocks("diff", "README.md")
    code = "\n".join(line[1:] for line in diff.splitlines() if not line.startswith("-"))
    torch.manual_seed(0)
    batches = [(torch.randn(32, 4), torch.randn(32, 3)) for _ in range(30)]

    def losses(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return (model(batch[0]) - batch[1]).square()

    world = {
        "torch": torch,
        "K": 3,
        "MyModel": lambda: torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3)),
        "losses": losses,
        "train_loader": batches[1:],
        "held_back": batches[0],
    }
    exec(compile(code, "README.md", "exec"), world)
    assert not torch.equal(world["combiner"].combiner.weights, torch.ones(3))
