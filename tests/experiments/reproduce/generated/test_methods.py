import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_generated import accuracy, student, task
from torch import Tensor, nn

from auxilearn.errors import InputError
from auxilearn.experiments.reproduce._loop import Steps
from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce.generated._course import Course, Stream, steps_in
from auxilearn.experiments.reproduce.generated._implicit import Original, Repaired
from auxilearn.experiments.reproduce.generated._maxl import Maxl
from auxilearn.experiments.reproduce.generated._methods import OURS, PLAIN, generated_methods
from auxilearn.experiments.reproduce.generated._opinions import FOLDS, VIEWS, Opinions, folds_of
from auxilearn.experiments.reproduce.generated._plain import MainOnly, RandomLabels, WithPool, pool_loss
from auxilearn.experiments.reproduce.generated._task import GeneratedTask
from auxilearn.experiments.reproduce.generated._teacher import Refinement, fitted_teacher
from auxilearn.generators import PooledLabels

METHODS = generated_methods()


def _place(folder: Path, name: str = "run", **options: Any) -> Place:
    (folder / name).mkdir(parents=True, exist_ok=True)
    return Place(folder / name, seed=0, **options)


def _opinions(found: GeneratedTask) -> Opinions:
    generator = torch.Generator().manual_seed(5)
    p, c, v = len(found.pool), found.num_classes, len(VIEWS)

    def made(*lead: int) -> Tensor:
        return torch.randn(*lead, v, c, generator=generator).softmax(-1)

    return Opinions(made(p), made(FOLDS, p), made(len(found.classes)))


def _refinement(found: GeneratedTask) -> Refinement:
    return Refinement(found, _opinions(found), PooledLabels(len(VIEWS)))


COURSES: dict[str, Callable[[GeneratedTask], Steps]] = {
    "main only": MainOnly,
    "random labels": RandomLabels,
    "MAXL": Maxl,
    "AuxiLearn 1.0": Original,
    "AuxiLearn, repaired": Repaired,
    "with pool": lambda found: WithPool(found, torch.full((len(found.pool), 10), 0.1)),
    "refinement": _refinement,
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_a_student_and_json(name: str, tmp_path: Path) -> None:
    found = task()
    state = torch.get_rng_state()
    outcome = METHODS[name](found, _place(tmp_path))
    assert torch.equal(state, torch.get_rng_state())
    assert not outcome.model.training
    assert 0 <= accuracy(found, outcome.model) <= 100
    json.dumps(dict(outcome.details), allow_nan=False)


@pytest.mark.parametrize("name", COURSES)
def test_a_course_goes_on_bit_by_bit(name: str) -> None:
    found = task(every=2)
    straight, first = COURSES[name](found), COURSES[name](found)
    for number in range(9):
        straight.number = number
        straight.step()
    for number in range(5):
        first.number = number
        first.step()
    second = COURSES[name](found)
    second.load_state_dict(_copied(first.state_dict()))
    losses = {}
    for number in range(5, 9):
        second.number = number
        losses = second.step()
    assert losses
    _alike(straight.state_dict(), second.state_dict())


@pytest.mark.parametrize("name", [PLAIN, "MAXL", "AuxiLearn 1.0", OURS])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    found = task(epochs=3, every=2)
    straight = METHODS[name](found, _place(tmp_path, "straight"))
    told = 0

    def progress(phase: str, step: int, steps: int) -> None:
        nonlocal told
        told += 1
        if told in {7, 24, 40, 60}:
            raise KeyboardInterrupt

    interrupted = 0
    while True:
        try:
            outcome = METHODS[name](found, _place(tmp_path, "interrupted", progress=progress))
            break
        except KeyboardInterrupt:
            interrupted += 1
    assert interrupted == (4 if name == OURS else 1)
    assert straight.details == outcome.details
    _alike(straight.model.state_dict(), outcome.model.state_dict())
    files = {"straight", "interrupted"}
    if name != OURS:
        assert len({(tmp_path / run / "curve.csv").read_text() for run in files}) == 1


def test_all_methods_see_the_same_batches_and_start_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    draw = Stream.draw

    def listening(self: Stream) -> tuple[Tensor, Tensor]:
        drawn = draw(self)
        if self.watched:  # type: ignore[attr-defined]
            seen.append(drawn)
        return drawn

    monkeypatch.setattr(Stream, "watched", False, raising=False)
    monkeypatch.setattr(Stream, "draw", listening)
    found = task(every=2)
    of_all: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name in ("main only", "random labels", "MAXL", "AuxiLearn, repaired", "with pool"):
        course = COURSES[name](found)
        assert isinstance(course, Course)
        course.labelled.watched = True  # type: ignore[attr-defined]
        seen.clear()
        for number in range(6):
            course.number = number
            course.step()
        of_all[name] = list(seen)
    for others in of_all.values():
        for (rows, images), (also, same) in zip(of_all["main only"], others, strict=True):
            assert torch.equal(rows, also)
            assert torch.equal(images, same)
    plain, wide = found.student(0), found.student(7)
    shared = {id(p) for p in wide.shared()}
    assert len(list(wide.parameters())) == len(shared) + 2
    for a, b in zip(plain.parameters(), wide.shared(), strict=True):
        assert torch.equal(a, b)


def test_the_published_method_never_trains_on_what_it_holds_out() -> None:
    found = task(every=2)
    course = Original(found)
    assert len(found.held_out) == 4
    assert not torch.isin(course.rows, found.held_out).any()
    assert len(course.rows) + len(found.held_out) == len(found.classes)
    drawn = [stream.draw()[0] for stream in (course.labelled, course.again) for _ in range(20)]
    assert not torch.isin(torch.cat(drawn), found.held_out).any()
    outer = torch.cat([course.outer.draw()[0] for _ in range(5)])
    assert torch.equal(outer.unique(), found.held_out)
    assert len(Repaired(found).rows) == len(found.classes)
    # Changed labels of held-out rows change nothing before the first outer step.
    changed = found.classes.clone()
    changed[found.held_out] = (changed[found.held_out] + 1) % 10
    first, other = Original(found), Original(replace(found, classes=changed))
    assert first.step() == other.step()
    for (name, a), b in zip(first.student.state_dict().items(), other.student.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("name", ["MAXL", "AuxiLearn 1.0", "AuxiLearn, repaired"])
def test_an_outer_step_moves_the_generator_and_leaves_no_trace_in_the_student(name: str) -> None:
    course: Any = COURSES[name](task())
    before = {key: value.clone() for key, value in course.student.state_dict().items()}
    generator = [p.clone() for p in course.generator.parameters()]
    statistics = {key: value.clone() for key, value in course.generator.named_buffers()}
    course._move()
    _alike(before, course.student.state_dict())
    _alike(statistics, dict(course.generator.named_buffers()))
    assert all(p.grad is None for p in course.student.parameters())
    assert any(not torch.equal(p, q) for p, q in zip(generator, course.generator.parameters(), strict=True))


@pytest.mark.parametrize("name", COURSES)
def test_losses_fall(name: str) -> None:
    found = task(epochs=12)
    course = COURSES[name](found)
    losses = []
    for number in range(steps_in(found)):
        course.number = number
        losses.append(course.step()["main"])
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])


def test_maxl_alternates_by_epochs_and_its_fixed_form_never_moves() -> None:
    found = task()
    learned, fixed = Maxl(found), Maxl(found, learned=False)
    start = [p.clone() for p in learned.generator.parameters()]
    assert learned.epoch == 5
    for number in range(6):
        for course in (learned, fixed):
            course.number = number
            course.step()
        moved = any(not torch.equal(p, q) for p, q in zip(start, learned.generator.parameters(), strict=True))
        assert moved == (number >= 4)
    assert all(torch.equal(p, q) for p, q in zip(start, fixed.generator.parameters(), strict=True))


def test_a_label_of_the_pool_counts_by_what_it_says() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0], [0.2, 0.2, 0.6]])
    total = 0.0
    for z, q in zip(logits.tolist(), labels.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(value) for value in z))
        entropy = -sum(value * math.log(value) for value in q if value)
        total += (1 - entropy / math.log(3)) * sum(v * (log_sum - value) for v, value in zip(q, z, strict=True))
    assert float(pool_loss(logits, labels)) == pytest.approx(total / 4, abs=1e-6)
    free = labels.clone().requires_grad_()
    pool_loss(logits, free).backward()
    assert torch.isfinite(free.grad).all()


def test_random_labels_are_sub_classes_of_the_class() -> None:
    found = task()
    course = RandomLabels(found)
    assert torch.equal(course.drawn // 3, found.classes)
    assert course.drawn.remainder(3).unique().tolist() == [0, 1, 2]


def test_without_a_pool_the_pools_methods_are_main_only(tmp_path: Path) -> None:
    found = task(pool=0)
    plain = METHODS[PLAIN](found, _place(tmp_path, "plain"))
    for name in ("self-training", OURS):
        outcome = METHODS[name](found, _place(tmp_path, name))
        assert "pool is empty" in outcome.details["note"]
        assert (tmp_path / name / "curve.csv").read_text() == (tmp_path / "plain" / "curve.csv").read_text()
        _alike(plain.model.state_dict(), outcome.model.state_dict())


def test_the_gate_falls_back_when_the_teacher_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # All views agree that everything in the pool is a 3, and students believe it.
    from auxilearn.experiments.reproduce.generated import _ours

    def wrong(found: GeneratedTask, *_: object) -> Opinions:
        three = torch.nn.functional.one_hot(torch.tensor(3), 10).float()
        p, n = len(found.pool), len(found.classes)
        return Opinions(three.expand(p, len(VIEWS), 10), three.expand(FOLDS, p, len(VIEWS), 10), three.expand(n, 4, 10))

    monkeypatch.setattr(_ours, "opinions_of", wrong)
    monkeypatch.setattr(_ours, "fitted_teacher", lambda *_: PooledLabels(len(VIEWS), sharpness=8.0))
    found = task(epochs=12, pool_batch=60)
    outcome = METHODS[OURS](found, _place(tmp_path))
    assert outcome.details["chosen"] == PLAIN
    plain = METHODS[PLAIN](found, _place(tmp_path, "plain"))
    _alike(plain.model.state_dict(), outcome.model.state_dict())


def test_the_teacher_is_fitted_to_the_view_that_is_right() -> None:
    found = task()
    known = _opinions(found)
    held = known.held.clone()
    held[torch.arange(len(held)), 1, found.classes] += 5
    held = held / held.sum(-1, keepdim=True)
    teacher = fitted_teacher(found, Opinions(known.pool, known.folds, held))
    assert int(teacher.weights.argmax()) == 1


def test_folds_are_dealt_class_by_class() -> None:
    classes = torch.arange(60) % 10
    fold = folds_of(classes)
    for c in range(10):
        assert fold[classes == c].bincount().tolist() == [2, 2, 2]


def test_a_loss_that_is_not_finite_is_refused_and_changes_nothing() -> None:
    course = MainOnly(task())
    before = [p.clone() for p in course.student.parameters()]
    with pytest.raises(InputError, match="must be finite"):
        course.descend(torch.tensor(torch.nan), main=torch.tensor(torch.nan))
    assert all(torch.equal(p, q) for p, q in zip(before, course.student.parameters(), strict=True))


def test_a_run_of_other_settings_is_not_gone_on_from(tmp_path: Path) -> None:
    def stop(phase: str, step: int, steps: int) -> None:
        if phase == "train" and step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        METHODS["self-training"](task(), _place(tmp_path, progress=stop))
    with pytest.raises(InputError, match="other settings"):
        METHODS["self-training"](task(lr=1e-2), _place(tmp_path))
    METHODS["self-training"](task(), _place(tmp_path))
    # What the first part kept is gone, its curve is there.
    assert sorted(file.name for file in (tmp_path / "run").rglob("*") if file.is_file()) == [
        "checkpoint.pt",
        "curve.csv",
        "curve.csv",
    ]


def test_features_are_what_the_main_head_reads() -> None:
    net = student(5, seed=0).eval()
    images = torch.rand(3, 3, 16, 16)
    features, main = net.features(images)
    assert torch.equal(net.network.heads[0](features), main)
    assert torch.equal(main, net(images)[0])


def _copied(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _copied(part) for name, part in state.items()}
    if isinstance(state, list):
        return [_copied(part) for part in state]
    return state.clone() if isinstance(state, Tensor) else state


def _alike(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            _alike(a[name], b[name])
    elif isinstance(a, list):
        for one, other in zip(a, b, strict=True):
            _alike(one, other)
    elif isinstance(a, Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b or isinstance(a, nn.Module)
