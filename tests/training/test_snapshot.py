"""A run that was interrupted ends, bit for bit, as one that was not."""

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auxilearn.combiners import MLP
from auxilearn.errors import InputError
from auxilearn.solvers import Neumann, WarmStart
from auxilearn.training import (
    Callback,
    CrossFit,
    EarlyStopping,
    Fit,
    HeldOut,
    Learned,
    Record,
    SecondBatch,
    Trainer,
)
from auxilearn.weighting import DWA, FAMO, AutoLambda, Equal, GradNorm, Uncertainty
from training.tiny import CLASSES, data, learned, losses, problem, same, same_fit, training, weights_of

METHODS: dict[str, Callable[[], Any]] = {
    "cross-fit": lambda: learned(outer=CrossFit(3), combiner=MLP, solver=WarmStart(Neumann())),
    "cross-fit, no gate": lambda: learned(outer=CrossFit(3), gate=False),
    "held out": lambda: learned(outer=HeldOut(0.4), combiner=MLP),
    "held out, kept": lambda: learned(outer=HeldOut(0.4), refit=False),
    "second batch": lambda: learned(outer=SecondBatch(3), combiner=MLP),
    "fast": lambda: learned(outer=SecondBatch(), gate=False, solver=WarmStart(Neumann())),
    "equal": Equal,
    "uncertainty": lambda: Uncertainty(lr=0.05),
    "grad norm": lambda: GradNorm(lr=0.05),
    "auto lambda": lambda: AutoLambda(lr=0.05, every=2),
    "dwa": lambda: DWA(epoch=3),
    "famo": FAMO,
}
SEARCHES = [name for name in METHODS if name.startswith("cross") or name in {"held out", "second batch"}]


def unseeded() -> nn.Module:
    """Build a network that is another one at each call."""
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 5)).double()


class Interrupting(Callback):
    """Raises at one step, in the way of Ctrl-C at the worst moment: after all others."""

    def __init__(self, phase: str = "", number: int = 0) -> None:
        self.phase, self.at = phase, number

    def on_step(self, trainer: Trainer, record: Callable[[], Record]) -> None:
        if (trainer.phase, trainer.number) == (self.phase, self.at):
            raise KeyboardInterrupt


def accuracy(model: nn.Module) -> float:
    x, y, _ = data()
    return float((model(x)[:, :CLASSES].argmax(1) == y).double().mean())


def settings(**changes: Any) -> Any:
    return training(
        **{
            "steps": 12,
            "accumulate": 2,
            "max_grad_norm": 1.0,
            "scheduler": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 12),
            **changes,
        }
    )


def run(folder: Path | None, method: Any, *callbacks: Callback, seed: int = 0, **changes: Any) -> tuple[Fit, list[Any]]:
    torch.manual_seed(seed)
    every = changes.pop("save_every", 5)
    found = changes.pop("problem", None) or problem(unseeded)
    stopping = EarlyStopping(accuracy, every=2, patience=9)
    trainer = Trainer(
        found, method, settings(**changes), callbacks=[stopping, *callbacks], folder=folder, save_every=every
    )
    return trainer.fit(), [stopping.best, torch.rand(3)]


def interrupted(
    folder: Path, make: Callable[[], Any], points: list[tuple[str, int]], **changes: Any
) -> tuple[Fit, list[Any]]:
    """Run with interruptions, each time in what might be a new process."""
    for number, (phase, step) in enumerate(points):
        with pytest.raises(KeyboardInterrupt):
            run(folder, make(), Interrupting(phase, step), seed=1000 * number, **changes)
        assert [f.name for f in folder.iterdir()] == ["checkpoint.pt"]
    return run(folder, make(), seed=5000, **changes)


def equal(one: tuple[Fit, list[Any]], other: tuple[Fit, list[Any]]) -> bool:
    assert one[1][0] == other[1][0]
    return same_fit(one[0], other[0])


@pytest.mark.parametrize("name", METHODS)
def test_interrupted_runs_end_as_whole_ones(name: str, tmp_path: Path) -> None:
    make = METHODS[name]
    whole = run(None, make())
    points = [("train", 4), ("train", 7), ("train", 12)]
    if name in SEARCHES:
        points = [("search", 1), ("search", 7), ("search", 12), *points]
    assert equal(whole, interrupted(tmp_path / "run", make, points))
    # A run that is over is not run again.
    again = run(tmp_path / "run", make(), Interrupting("train", 12), seed=77)
    assert equal(whole, again)


@pytest.mark.parametrize("name", ["cross-fit", "held out", "second batch", "fast", "famo"])
def test_an_interrupt_within_a_step_is_heard_after_it(name: str, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        whole = run(None, METHODS[name]())
        early, late = (33, 60) if name in SEARCHES else (15, 25)
        for at, hard in ((early, False), (late, False), (early, True), (late, True)):
            folder = tmp_path / f"{at} {hard}"
            with pytest.raises(KeyboardInterrupt):
                run(folder, METHODS[name](), problem=problem(unseeded, losses=signalling(at, hard=hard)), save_every=2)
            assert [f.name for f in folder.iterdir()] == ["checkpoint.pt"]
            never = problem(unseeded, losses=signalling(10**9, hard=hard))
            assert equal(whole, run(folder, METHODS[name](), seed=9, problem=never))
    finally:
        signal.signal(signal.SIGINT, before)


def signalling(at: int, *, hard: bool) -> Callable[[nn.Module, Any], Tensor]:
    """Return losses whose computation is interrupted once: by a signal, or so hard that the step is not finished."""
    calls: Iterator[int] = iter(range(10**9))

    def signalled(model: nn.Module, batch: Any) -> Tensor:
        if next(calls) == at:
            if hard:
                raise KeyboardInterrupt
            signal.raise_signal(signal.SIGINT)
        return losses(model, batch)

    signalled.__qualname__ = "losses"
    return signalled


def test_a_phase_that_was_stopped_stays_stopped(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_step(self, trainer: Trainer, record: Callable[[], Record]) -> None:
            trainer.stop = trainer.phase == "search" and trainer.number == 6

    whole = run(None, METHODS["cross-fit"](), Stop())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, METHODS["cross-fit"](), Stop(), Interrupting("train", 4))
    assert equal(whole, run(tmp_path, METHODS["cross-fit"](), seed=3))
    assert len(whole[0].history) == 1


def test_callbacks_may_come_and_go(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = Trainer(problem(unseeded), Equal(), settings()).fit()
    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        Trainer(problem(unseeded), Equal(), settings(), callbacks=[Interrupting("train", 4)], folder=tmp_path).fit()
    stopping = EarlyStopping(lambda model: 0.0, every=100)
    assert same_fit(whole, Trainer(problem(unseeded), Equal(), settings(), callbacks=[stopping], folder=tmp_path).fit())


def augmented(flip: Callable[[], bool], noise: Callable[[], float]) -> Callable[[nn.Module, Any], Tensor]:
    """Return losses that turn half of the batches around, and shift some."""

    def drawing(model: nn.Module, batch: Any) -> Tensor:
        x, y, targets = batch
        return losses(model, (-x if flip() else x, y, targets)) * (1.0 + noise())

    return drawing


@pytest.mark.parametrize("name", ["cross-fit", "held out", "second batch", "fast", "equal"])
def test_losses_may_draw_from_other_generators(name: str, tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    draws: dict[str, tuple[Callable[[], bool], Callable[[], float]]] = {
        # Whether the models of a search can be vectorised is tried out, and hangs upon what is drawn then.
        "the fleet hangs on it": (lambda: random.random() < 0.5, lambda: 0.0),
        "both": (lambda: random.random() < 0.5, lambda: float(np.random.rand())),
    }
    points = [("search", 3), ("search", 8), ("train", 4)] if name in SEARCHES else [("train", 4), ("train", 7)]
    for case, (flip, noise) in draws.items():
        found = problem(unseeded, losses=augmented(flip, noise))
        random.seed(1)
        np.random.seed(1)
        whole = run(None, METHODS[name](), problem=found)
        after = random.random(), np.random.rand()
        random.seed(1)
        np.random.seed(1)
        assert equal(whole, interrupted(tmp_path / case, METHODS[name], points, problem=found)), case
        assert after == (random.random(), np.random.rand())


def test_half_precision_goes_on(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return unseeded().float()

    values = tuple(t.float() if t.is_floating_point() else t for t in data())
    changes = {"problem": problem(build, data=values, logits=None), "precision": "float16"}
    callbacks = {"save_every": 3}
    fits = []
    for points in ([], [("search", 5), ("train", 5)]):
        for phase, step in points:
            torch.manual_seed(0 if phase == "search" else 8)
            trainer = Trainer(
                changes["problem"],
                METHODS["cross-fit"](),
                settings(precision="float16"),
                callbacks=[Interrupting(phase, step)],
                folder=tmp_path,
                **callbacks,
            )
            with pytest.raises(KeyboardInterrupt):
                trainer.fit()
        torch.manual_seed(0)
        fits.append(
            Trainer(
                changes["problem"],
                METHODS["cross-fit"](),
                settings(precision="float16"),
                folder=tmp_path if points else None,
                **callbacks,
            ).fit()
        )
    assert same_fit(*fits)


OTHERS: dict[str, Callable[[], tuple[Any, Any, Any]]] = {
    "another rule": lambda: (problem(), DWA(), training()),
    "another setting of the rule": lambda: (problem(), Equal(scale=0.5), training()),
    "more steps": lambda: (problem(), Equal(), training(steps=9)),
    "another learning rate": lambda: (problem(), Equal(), training(optimizer=other_adam)),
    "other labels": lambda: (problem(labelled=torch.arange(1, 25)), Equal(), training()),
    "other data": lambda: (problem(data=tuple(t[:50] for t in data())), Equal(), training()),
    "another network": lambda: (problem(nn.Linear(4, 5).double()), Equal(), training()),
    "other losses": lambda: (problem(losses=lambda m, b: losses(m, b)), Equal(), training()),
    "other names": lambda: (problem(names=("a", "b", "c")), Equal(), training()),
    "another seed": lambda: (problem(), Equal(), training(seed=1)),
}


def other_adam(params: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr=0.02)


other_adam.__qualname__ = "adam"  # the same name, and another learning rate


@pytest.mark.parametrize("case", OTHERS)
def test_a_run_with_other_settings_is_refused(case: str, tmp_path: Path) -> None:
    Trainer(problem(), Equal(), training(), folder=tmp_path).fit()
    content = (tmp_path / "checkpoint.pt").read_bytes()
    trainer = Trainer(*OTHERS[case](), folder=tmp_path)
    before, random = weights_of(trainer.model), torch.get_rng_state()
    with pytest.raises(InputError, match="A run goes on only with the settings that it began with"):
        trainer.fit()
    assert same(before, weights_of(trainer.model))
    assert torch.equal(random, torch.get_rng_state())
    assert (tmp_path / "checkpoint.pt").read_bytes() == content
    assert [f.name for f in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_another_combiner_or_outer_optimizer_is_refused(tmp_path: Path) -> None:
    def build(**changes: Any) -> Learned:
        return learned(**changes)

    Trainer(problem(), build(optimizer=lambda p: torch.optim.Adam(p, lr=0.1)), training(), folder=tmp_path).fit()
    for changes in (
        {"optimizer": lambda p: torch.optim.Adam(p, lr=0.2)},
        {"optimizer": lambda p: torch.optim.Adam(p, lr=0.1), "combiner": MLP},
    ):
        with pytest.raises(InputError, match="other settings"):
            Trainer(problem(), build(**changes), training(), folder=tmp_path).fit()


def test_a_state_that_does_not_fit_the_code_is_refused(tmp_path: Path) -> None:
    def looking(model: nn.Module, batch: Any) -> Tensor:  # such losses cannot be vectorised
        found = losses(model, batch)
        return found * 2 if found.mean().item() > 1e9 else found

    looking.__qualname__ = "losses"
    with pytest.raises(KeyboardInterrupt):
        Trainer(problem(), learned(), training(), callbacks=[Interrupting("search", 3)], folder=tmp_path).fit()
    content = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(InputError, match=r"goes on only with the code.*does not fit.*or choose another folder"):
        Trainer(problem(losses=looking), learned(), training(), folder=tmp_path).fit()
    assert (tmp_path / "checkpoint.pt").read_bytes() == content


def test_no_folder_is_made_before_training(tmp_path: Path) -> None:
    Trainer(problem(), Equal(), training(), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
