"""What watches a run sees every step, changes nothing, and stops it when told to."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from auxilearn.errors import InputError, MissingExtraError
from auxilearn.training import Callback, EarlyStopping, HeldOut, ProgressBar, Record, TensorBoard, Trainer
from auxilearn.weighting import Equal
from training.tiny import data, learned, logits, losses, net, problem, same, same_fit, training, weights_of


class Log(Callback):
    """Writes down what it is told."""

    def __init__(self, stop_at: int = 0, phase: str = "train") -> None:
        self.lines: list[Any] = []
        self.records: list[Record] = []
        self.stop_at, self.phase = stop_at, phase

    def on_start(self, trainer: Trainer, phase: str, steps: int, first: int) -> None:
        self.lines.append(("start", phase, steps, first))

    def on_step(self, trainer: Trainer, record: Callable[[], Record]) -> None:
        self.records.append(record())
        self.lines.append((trainer.phase, trainer.number))
        if trainer.phase == self.phase and trainer.number == self.stop_at:
            trainer.stop = True

    def on_end(self, trainer: Trainer) -> None:
        self.lines.append("end")


def test_a_callback_is_told_everything() -> None:
    log = Log()
    fit = Trainer(problem(), learned(), training(steps=12), callbacks=[Callback(), log]).fit()
    steps = range(1, 13)
    expected = [("start", "search", 12, 0), *(("search", n) for n in steps)]
    expected += [("start", "train", 12, 0), *(("train", n) for n in steps), "end"]
    assert log.lines == expected
    assert [(r.phase, r.step) for r in log.records] == [(p, n) for p in ("search", "train") for n in steps]
    assert fit.history == tuple(r for r in log.records if r.step == 10)
    assert list(log.records[0].losses) == list(log.records[0].weights) == ["main", "loss 1", "loss 2"]


def test_watching_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = problem(net(nn.BatchNorm1d(6), nn.Dropout(0.3)))
    fits = []
    for callbacks in ([], [Log(), TensorBoard(tmp_path, every=1), ProgressBar(), EarlyStopping(lambda m: 0.0)]):
        torch.manual_seed(0)
        fits.append(Trainer(found, learned(), training(), callbacks=callbacks).fit())
    assert same_fit(*fits)


def test_a_callback_may_stop_a_phase() -> None:
    for phase in ("search", "train"):
        log = Log(stop_at=3, phase=phase)
        Trainer(problem(), learned(), training(), callbacks=[log]).fit()
        assert sum(line[0] == phase for line in log.lines) == 3
        assert log.lines.count("end") == 1


def test_the_progress_bar_counts(capsys: pytest.CaptureFixture[str]) -> None:
    Trainer(problem(), learned(), training(), callbacks=[ProgressBar()]).fit()
    out = capsys.readouterr().out
    assert "search" in out
    assert "train" in out
    assert "8/8" in out


def test_tensorboard_events_can_be_read(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log, folder = Log(), tmp_path / "events"
    board = TensorBoard(folder, every=3)
    assert not folder.exists()  # nothing is written before something happened
    trainer = Trainer(problem(), learned(), training(), callbacks=[board, log])
    trainer.fit()
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert sorted(tags) == sorted(
        f"{phase}/{kind}/{name}"
        for phase in ("search", "train")
        for kind in ("loss", "weight")
        for name in ("main", "loss 1", "loss 2")
    )
    for phase in ("search", "train"):
        points = events.Scalars(f"{phase}/loss/main")
        assert [p.step for p in points] == [3, 6]
        seen = {r.step: r.losses["main"] for r in log.records if r.phase == phase}
        assert [p.value for p in points] == pytest.approx([seen[3], seen[6]], rel=1e-6)
    trainer.fit()  # it opens another file
    assert len(list(folder.iterdir())) == 2


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"is a file\. Choose another name"):
        TensorBoard(tmp_path / "file")
    with pytest.raises(InputError, match="`every` must"):
        TensorBoard(tmp_path, every=0)


@pytest.mark.parametrize(
    ("module", "make", "extra"),
    [("rich.progress", lambda _: ProgressBar(), "experiments"), ("tensorboard", TensorBoard, "tensorboard")],
)
def test_a_missing_extra_is_named(
    module: str, make: Any, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"needs the extra `{extra}`.*pip install 'auxilearn\[{extra}\]'"):
        make(tmp_path / "events")
    assert not (tmp_path / "events").exists()


class Script:
    """A metric that returns given values, and keeps the weights that it saw."""

    def __init__(self, *values: Any) -> None:
        self.values, self.seen = list(values), []

    def __call__(self, model: nn.Module) -> Any:
        assert not model.training
        assert not torch.is_grad_enabled()
        self.seen.append(weights_of(model))
        return self.values[len(self.seen) - 1]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_early_stopping_keeps_the_best_weights(mode: Any) -> None:
    sign = 1 if mode == "max" else -1
    metric = Script(*(sign * v for v in (1.0, 3.0, 2.0, 2.5, 9.0)))
    stopping, log = EarlyStopping(metric, every=2, patience=2, mode=mode), Log()
    model = net(nn.BatchNorm1d(6), nn.Tanh())
    fit = Trainer(problem(model), Equal(), training(steps=40), callbacks=[stopping, log]).fit()
    assert len(metric.seen) == 4
    assert log.records[-1].step == 8
    assert stopping.best == sign * 3.0
    assert same(weights_of(fit.model), metric.seen[1])
    assert not same(weights_of(fit.model), metric.seen[3])


def test_early_stopping_leaves_the_search_and_the_modes_alone() -> None:
    metric = Script(*range(10))
    log = Log()
    trainer = Trainer(problem(), learned(), training(), callbacks=[EarlyStopping(metric, every=4, patience=1), log])
    trainer.fit()
    assert sum(line[0] == "search" for line in log.lines) == 8
    assert len(metric.seen) == 2
    frozen = net(nn.BatchNorm1d(6))
    modes = []

    class Freeze(Callback):
        def on_start(self, trainer: Trainer, phase: str, steps: int, first: int) -> None:
            trainer.model[1].eval()

        def on_step(self, trainer: Trainer, record: Callable[[], Record]) -> None:
            modes.append([m.training for m in trainer.model])

    Trainer(
        problem(frozen), Equal(), training(), callbacks=[EarlyStopping(Script(*range(10)), every=1), Freeze()]
    ).fit()
    assert all(mode == [True, False, True] for mode in modes)


def test_early_stopping_by_a_real_metric() -> None:
    def accuracy(model: nn.Module) -> float:
        found, labels = logits(model, data())
        return float((found.argmax(1) == labels).double().mean())

    stopping = EarlyStopping(accuracy, every=5, patience=3)
    fit = Trainer(problem(), Equal(normalise=True), training(steps=60), callbacks=[stopping]).fit()
    assert stopping.best is not None
    assert stopping.best > 0.6
    assert accuracy(fit.model) == stopping.best


@pytest.mark.parametrize("value", [float("nan"), "good", None, torch.ones(2)])
def test_a_metric_must_be_a_number(value: Any) -> None:
    trainer = Trainer(problem(), Equal(), training(), callbacks=[EarlyStopping(Script(1.0, value), every=2)])
    with pytest.raises(InputError, match=r"`metric` must return a number\. It returned"):
        trainer.fit()
    assert trainer.number == 4


def test_settings_are_in_range() -> None:
    for changes in ({"every": 0}, {"patience": 0}, {"mode": "maximum"}):
        with pytest.raises(InputError, match="must"):
            EarlyStopping(float, **changes)


def test_all_are_told_the_end_of_a_run_that_fails() -> None:
    def broken(model: nn.Module, batch: Any) -> Any:
        return losses(model, batch) * (torch.nan if len(log.records) == 3 else 1.0)

    log = Log()
    trainer = Trainer(problem(losses=broken), learned(outer=HeldOut(0.4)), training(), callbacks=[log])
    with pytest.raises(InputError, match="Every loss must be finite"):
        trainer.fit()
    assert log.lines[-1] == "end"
    assert trainer.number == 3
