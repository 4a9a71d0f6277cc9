"""One call, or a step at a time: the outcome, what is refused, and what the user is told."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from auxilearn.combiners import MLP, Bent, Conv, DeepLinear, Linear
from auxilearn.errors import InputError, SecondOrderError
from auxilearn.solvers import Neumann
from auxilearn.training import Callback, CrossFit, HeldOut, Learned, SecondBatch, Trainer
from auxilearn.training import _trainer as module
from auxilearn.training._gate import LEARNED, MAIN_ONLY, Verdict
from auxilearn.weighting import DWA, FAMO, GCS, AutoLambda, Equal, GradNorm, MainOnly, Uncertainty
from training.tiny import (
    LABELS,
    ROWS,
    adam,
    data,
    learned,
    logits,
    losses,
    masked,
    net,
    problem,
    same,
    same_fit,
    training,
    weights_of,
)

COMBINERS: dict[str, Any] = {
    "linear": Linear,
    "signed": lambda k: Linear(k, monotone=False),
    "deep linear": DeepLinear,
    "mlp": lambda k: MLP(k, hidden=(4,)),
    "bent": Bent,
    "bent each": lambda k: Bent(k, shared=False),
}
OUTERS: dict[str, Any] = {
    "cross-fit": {"outer": CrossFit(3)},
    "held out": {"outer": HeldOut(0.4)},
    "held out, kept": {"outer": HeldOut(0.4), "refit": False},
    "second batch": {"outer": SecondBatch(3)},
}


@pytest.mark.parametrize("outer", OUTERS)
@pytest.mark.parametrize("combiner", COMBINERS)
def test_every_combiner_is_learned_under_every_policy(combiner: str, outer: str) -> None:
    method = learned(combiner=COMBINERS[combiner], gate=False, **OUTERS[outer])
    fit = Trainer(problem(losses=masked), method, training()).fit()
    assert fit.combiner is not None
    assert not any(p.requires_grad for p in fit.combiner.parameters())
    assert list(fit.weights) == ["main", "loss 1", "loss 2"]
    assert fit.weights["main"] == 1.0
    assert fit.weights["loss 1"] not in {0.0, 1.0}
    assert all(t.isfinite().all() for t in weights_of(fit.model))
    assert not fit.model.training
    assert list(fit.usefulness) == (["loss 1", "loss 2"] if outer == "cross-fit" else [])
    assert fit.verdict is None
    if outer in {"cross-fit", "second batch"}:
        method = learned(combiner=COMBINERS[combiner], **OUTERS[outer])
        assert Trainer(problem(losses=masked), method, training()).fit().verdict is not None


@pytest.mark.parametrize("rule", [Equal, MainOnly, GCS, GradNorm, AutoLambda, DWA, FAMO, Uncertainty])
def test_every_kind_of_rule_trains(rule: Any) -> None:
    fit = Trainer(problem(net(nn.BatchNorm1d(6), nn.Dropout(0.2))), rule(), training(accumulate=2)).fit()
    assert fit.combiner is None
    assert fit.verdict is None
    assert all(t.isfinite().all() for t in weights_of(fit.model))


def test_the_problem_is_not_changed() -> None:
    model = net(nn.BatchNorm1d(6))
    before = weights_of(model)
    fit = Trainer(problem(model), learned(), training()).fit()
    assert same(before, weights_of(model))
    assert model.training
    assert not same(before, weights_of(fit.model))


def test_data_sets_and_loaders_train_as_tensors_do() -> None:
    whole = TensorDataset(*data())
    fits = [
        Trainer(problem(data=given), learned(), training(batch_size=size)).fit()
        for given, size in ((data(), 16), (whole, 16), (DataLoader(whole, batch_size=16, shuffle=True), None))
    ]
    assert same_fit(fits[0], fits[1])
    assert same_fit(fits[0], fits[2])


def test_all_rows_may_be_labelled_and_main_may_be_any_column() -> None:
    def turned(model: nn.Module, batch: Any) -> Tensor:
        return losses(model, batch).roll(-1, 1)

    one = Trainer(problem(labelled=None), learned(), training()).fit()
    other = Trainer(problem(labelled=None, losses=turned, main=2), learned(), training()).fit()
    assert other.weights["main"] == 1.0
    assert other.weights["loss 0"] == pytest.approx(one.weights["loss 1"], rel=1e-3)
    assert list(other.usefulness) == ["loss 0", "loss 1"]


def test_learning_helps_where_something_helps() -> None:
    # Few labels; one auxiliary loss holds what the classes are made of, the other is noise.
    torch.manual_seed(0)
    x = torch.randn(400, 8)
    W = torch.randn(8, 3)
    y, z = (x @ W).argmax(1), x @ W
    noise = 20 * torch.randn(400, 1)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.heads = nn.Linear(8, 3), nn.Linear(3, 7)

        def forward(self, x: Tensor) -> Tensor:
            return self.heads(self.trunk(x).tanh())

    def three(model: nn.Module, batch: Any) -> Tensor:
        x, y, z, noise = batch
        out = model(x)
        main = nn.functional.cross_entropy(out[:, :3], y, reduction="none")
        return torch.stack([main, (out[:, 3:6] - z).square().mean(1), (out[:, 6:] - noise).square()[:, 0]], 1)

    torch.manual_seed(1)
    found = problem(
        Net(),
        data=(x, y, z, noise),
        losses=three,
        labelled=torch.arange(24),
        names=("class", "good", "noise"),
        logits=(lambda model, batch: (model(batch[0])[:, :3], batch[1])),
    )
    fit = Trainer(found, Learned(warmup=10, every=4), training(steps=150, batch_size=64)).fit()
    alone = Trainer(found, MainOnly(), training(steps=150, batch_size=64)).fit()
    assert fit.verdict is not None
    score = [float((f.model(x)[24:, :3].argmax(1) == y[24:]).double().mean()) for f in (fit, alone)]
    assert score[0] >= score[1]


@pytest.mark.parametrize("outer", ["cross-fit", "second batch"])
@pytest.mark.parametrize("chosen", [MAIN_ONLY, LEARNED])
def test_the_gate_decides_what_the_final_model_descends(
    chosen: str, outer: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    verdict = Verdict(chosen, {LEARNED: 2.0}, {})
    monkeypatch.setattr(module, "gate", lambda *_, **__: verdict)
    with caplog.at_level(logging.INFO, "auxilearn"):
        fit = Trainer(problem(), learned(**OUTERS[outer]), training()).fit()
    assert fit.verdict == verdict
    assert str(verdict) in fit.notes
    levels = {r.message: r.levelno for r in caplog.records}
    assert levels[str(verdict)] == (logging.WARNING if chosen == MAIN_ONLY else logging.INFO)
    if chosen == LEARNED:
        assert fit.combiner is not None
    else:
        plain = Trainer(problem(), MainOnly(), training()).fit()
        assert fit.combiner is None
        assert fit.weights == plain.weights
        assert same(weights_of(fit.model), weights_of(plain.model))


def test_held_out_labels_are_never_trained_on() -> None:
    # Main losses of the rows that are held out may be anything, as long as they are only looked at.
    trainer = Trainer(problem(), learned(outer=HeldOut(0.4), refit=False), training())
    held = torch.cat([trainer._outer, trainer._watched])
    assert len(held) == 9
    kept = trainer._run._sampler._parts[0].rows
    assert sorted([*held.tolist(), *kept.tolist()]) == list(range(LABELS))
    seen: list[Tensor] = []

    def watching(model: nn.Module, batch: Any) -> Tensor:
        if torch.is_grad_enabled() and model.training:
            seen.append(batch[3])
        return losses(model, batch[:3])

    found = problem(losses=watching, data=(*data(), torch.arange(ROWS)), logits=lambda m, b: logits(m, b[:3]))
    trainer = Trainer(found, learned(outer=HeldOut(0.4), refit=False, warmup=7), training())
    seen.clear()
    trainer.fit()
    steps = [rows for rows in seen if not set(rows.tolist()) <= set(trainer._outer.tolist())]
    assert steps
    assert not any(set(rows.tolist()) & set(held.tolist()) for rows in steps)


def test_what_went_wrong_is_told(caplog: pytest.LogCaptureFixture) -> None:
    method = learned(solver=Neumann(alpha=1e9), gate=False)
    for outer in OUTERS:
        fit = Trainer(problem(), Learned(**{**vars(method), **OUTERS[outer]}), training()).fit()
        assert any("3 of 3 outer steps were skipped" in note for note in fit.notes), outer
    assert all(r.levelno == logging.WARNING for r in caplog.records)
    silent = learned(combiner=lambda k: Linear(k, init=1e-4), gate=False, warmup=7, every=7)
    fit = Trainer(problem(), silent, training()).fit()
    assert any(note.startswith("The weights collapsed: all 2 auxiliary losses") for note in fit.notes)


def test_overfitting_of_the_outer_set_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "overfitting", lambda outer, watched: f"{len(outer)} against {len(watched)}")
    for refit in (True, False):
        fit = Trainer(problem(), learned(outer=HeldOut(0.4), refit=refit), training()).fit()
        assert "5 against 4" in fit.notes
    assert not Trainer(problem(), learned(outer=SecondBatch(), gate=False), training()).fit().notes


def test_fit_starts_anew_each_time() -> None:
    for method in (Equal(), Uncertainty(), learned(), learned(outer=HeldOut(0.4)), learned(outer=SecondBatch())):
        trainer = Trainer(problem(), method, training(steps=10))
        trainer.train_step(data())
        first = trainer.fit()
        assert same_fit(first, trainer.fit())
        assert same_fit(first, Trainer(problem(), method, training(steps=10)).fit())
        assert len(first.history) == (2 if isinstance(method, Learned) else 1)


def test_seeds_decide_batches_and_folds() -> None:
    fits = [Trainer(problem(), learned(), training(seed=seed)).fit() for seed in (0, 0, 1)]
    assert same_fit(fits[0], fits[1])
    assert not same(weights_of(fits[0].model), weights_of(fits[2].model))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_trains(precision: Any) -> None:
    values = tuple(t.float() if t.is_floating_point() else t for t in data())
    found = problem(net(dtype=torch.float32), data=values)
    settings = training(
        precision=precision,
        max_grad_norm=1.0,
        accumulate=2,
        scheduler=lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.01, total_steps=20),
    )
    fit = Trainer(found, learned(), settings).fit()
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in fit.model.parameters())


# ------------------------------------------------------------------------------------------- a loop of one's own


def test_the_visible_steps() -> None:
    trainer = Trainer(problem(), learned(outer=SecondBatch(), gate=False), training())
    labelled = torch.arange(ROWS) < LABELS
    outer = tuple(t[:LABELS] for t in data())
    for step in range(12):
        found = trainer.train_step(data(), labelled=labelled)
        expected = float(losses(net(), data())[:LABELS, 0].mean().detach())
        if step == 0:
            assert found["main"] == pytest.approx(expected, rel=1e-6)
        if step % 3 == 2:
            report = trainer.outer_step(data(), outer, labelled=labelled)
            assert not report.failed
    assert trainer.number == 12
    assert found["main"] < expected
    assert list(found) == ["main", "loss 1", "loss 2"]
    weights = trainer._run.weights
    assert weights[0] == 1
    assert (weights[1:] - 1).abs().min() > 0.01


def test_the_visible_steps_take_other_methods_and_refuse_bad_batches() -> None:
    trainer = Trainer(problem(), FAMO(), training())
    before = weights_of(trainer.model)
    with pytest.raises(InputError, match="This method learns none"):
        trainer.outer_step(data(), data())
    with pytest.raises(InputError, match=r"dtype torch\.int64"):
        trainer.train_step(data(), labelled=torch.arange(ROWS))
    bad = data()
    bad[0][0, 0] = torch.nan
    with pytest.raises(InputError, match=r"NaN or infinite: `main`, `loss 1`, `loss 2`.*were not moved"):
        trainer.train_step(bad)
    assert same(before, weights_of(trainer.model))
    trainer.train_step(data())
    assert not same(before, weights_of(trainer.model))


# --------------------------------------------------------------------------------------------------- bad input


class Ending(Dataset[Any]):
    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, i: int) -> Any:
        if i >= ROWS // 2:
            raise IndexError(i)
        return tuple(t[i] for t in data())


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield from zip(*data(), strict=True)


def one_loss(model: nn.Module, batch: Any) -> Tensor:
    return losses(model, batch)[:, :1]


def averaged(model: nn.Module, batch: Any) -> Tensor:
    return losses(model, batch).mean(0, keepdim=True)


def broken(model: nn.Module, batch: Any) -> Tensor:
    return losses(model, batch).log() - torch.inf


BAD: dict[str, tuple[dict[str, Any], Any, dict[str, Any], str]] = {
    "averaged losses": ({"losses": averaged}, None, {}, "60 samples, and the losses 1 rows. Do not average"),
    "one loss": ({"losses": one_loss}, None, {}, "`Learned` needs at least one auxiliary loss"),
    "main out of range": ({"main": 3}, None, {}, "`main` must be a column"),
    "no labels": ({"labelled": []}, None, {}, "`labelled` must hold"),
    "labels twice": ({"labelled": [0, 0, 1]}, None, {}, "2 of 3 are distinct"),
    "a stream": ({"data": DataLoader(Stream())}, None, {}, "It is a `Stream`"),
    "a loader that ends early": ({"data": DataLoader(Ending())}, None, {}, "`data` must hold the rows 0 to 59"),
    "an empty loader": ({"data": DataLoader(TensorDataset(data()[0][:0]), shuffle=False)}, None, {}, "It is empty"),
    "broken losses": ({"losses": broken}, None, {}, "NaN or infinite"),
    "too many folds": ({}, Learned(outer=CrossFit(25)), {}, "24 labels for 25 folds. Use fewer folds"),
    "too many folds for the gate": ({}, Learned(outer=SecondBatch(25)), {}, "24 labels for 25 folds. Use fewer folds"),
    "too few to hold out": ({}, Learned(outer=HeldOut(0.05)), {}, "0.05 of 24 are 1"),
    "a class": ({}, Equal, {}, "It is a class. E.g. `Learned"),
    "a name": ({}, "learned", {}, "It is a `str`"),
    "images only": ({}, Learned(combiner=Conv), {}, "reads images of losses only"),
    "no parameters": ({"model": nn.ReLU()}, None, {}, "It has none. Unfreeze"),
    "a bad callback count": ({}, None, {"save_every": 0}, "`save_every` must"),
    "things that are no callbacks": ({}, None, {"callbacks": [print]}, "`callbacks` must"),
    "a single callback": ({}, None, {"callbacks": Callback()}, "`callbacks` must be a list of callbacks"),
    "an optimizer in place of its function": ({}, Learned(optimizer=lambda p: None), {}, "It built a `NoneType`"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_is_changed_or_written(case: str, tmp_path: Path) -> None:
    changes, method, settings, finding = BAD[case]
    model, random = net(nn.BatchNorm1d(6)), torch.get_rng_state()
    before = weights_of(model)
    with pytest.raises(InputError, match=finding):
        Trainer(problem(**{"model": model, **changes}), method, training(), folder=tmp_path / "run", **settings)
    assert same(before, weights_of(model))
    if case != "images only":  # a combiner that is built may draw its weights
        assert torch.equal(random, torch.get_rng_state())
    assert not list(tmp_path.iterdir())


def test_settings_must_be_settings() -> None:
    with pytest.raises(InputError, match="`training` must be a `Training`"):
        Trainer(problem(), Equal(), 500)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`problem` must be a `Problem`"):
        Trainer(net(), Equal())  # type: ignore[arg-type]


def test_a_compiled_model_is_refused() -> None:
    with pytest.raises(SecondOrderError, match="is compiled"):
        Trainer(problem(torch.compile(net())), Equal(), training())


def test_a_search_without_outer_steps_is_refused(tmp_path: Path) -> None:
    for outer in OUTERS.values():
        trainer = Trainer(problem(), Learned(warmup=8, **outer), training(), folder=tmp_path / "run")
        with pytest.raises(InputError, match=r"It is 8, and there are 8 steps\. Train for longer"):
            trainer.fit()
    assert not list(tmp_path.iterdir())


def test_units_are_needed_only_where_they_are_used() -> None:
    def zero(model: nn.Module, batch: Any) -> Tensor:
        return losses(model, batch) * torch.tensor([1.0, 0.0, 1.0])

    Trainer(problem(losses=zero), Equal(), training()).fit()
    for method in (Equal(normalise=True), learned()):
        with pytest.raises(InputError, match="It is 0 or absent: `loss 1`"):
            Trainer(problem(losses=zero), method, training())


@pytest.mark.parametrize("outer", OUTERS)
def test_losses_that_break_on_the_way_stop_training(outer: str, tmp_path: Path) -> None:
    calls: list[int] = []

    def breaking(model: nn.Module, batch: Any) -> Tensor:
        calls.append(0)
        return losses(model, batch) * (torch.nan if len(calls) > 25 else 1.0)

    folder = tmp_path / "run"
    trainer = Trainer(
        problem(losses=breaking), learned(**OUTERS[outer]), training(steps=40), folder=folder, save_every=3
    )
    with pytest.raises(InputError, match=r"Every loss must be finite\. NaN or infinite: `main`"):
        trainer.fit()
    assert trainer.number > 3
    assert [f.name for f in folder.iterdir()] == ["checkpoint.pt"]
    assert all(t.isfinite().all() for t in weights_of(trainer.model))
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    course = state["courses"][state["phase"]]
    assert course["number"] == trainer.number // 3 * 3
    assert adam is not None
