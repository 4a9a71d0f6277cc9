import json

import pytest
import torch
from torch.nn import functional

from auxilearn.data import CLASSES, Images
from auxilearn.experiments.generate._experiment import GENERATE, METHODS, OURS
from auxilearn.experiments.generate._fixed import fitted_teacher, k_means
from auxilearn.experiments.generate._opinions import VIEWS, Opinions, opinions, spread, views
from auxilearn.experiments.generate._rivals import train_maxl
from auxilearn.experiments.generate._task import FOLDS, GenerateTask, Student, draw_task, train
from auxilearn.experiments.generate._teacher import TeacherSearch, learn_teacher
from auxilearn.generators import PooledLabels


def _images() -> Images:
    """Draw ten prototypes with noise: easy, but not trivial with five labels a class."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(400) % CLASSES
    prototypes = torch.randn(CLASSES, 14, 14, generator=generator)
    return Images(prototypes[classes] + 1.5 * torch.randn(400, 14, 14, generator=generator), classes)


def _task(steps: int = 8) -> GenerateTask:
    return draw_task(_images(), 100, pool=150, steps=steps)


def _known(task: GenerateTask) -> Opinions:
    return opinions(task.main_x, task.main_y, task.pool_x, folds=FOLDS, seed=task.seed)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_repeatably_and_gives_json(name: str) -> None:
    first, second = (METHODS[name](_task(), 100) for _ in range(2))
    assert first.score == second.score
    assert 0 <= first.score <= 100
    assert json.loads(json.dumps(dict(first.details))) == second.details


def test_the_experiment_keeps_the_contract() -> None:
    assert GENERATE.ours == OURS
    assert len(GENERATE.cells) == 2
    assert all(next(iter(cell.methods)) == "main only" for cell in GENERATE.cells)
    task = GENERATE.cells[1].task(100)
    again = GENERATE.cells[1].task(100)
    assert torch.equal(task.main_x, again.main_x)
    assert (len(task.main_y), len(task.pool_y)) == (50, 1000)
    assert torch.equal(task.batches(), again.batches())


def test_students_start_alike_whatever_their_second_head() -> None:
    plain, wide = Student(3), Student(3, 7)
    assert all(torch.equal(a, b) for a, b in zip(plain.shared(), wide.shared(), strict=True))
    assert {id(p) for p in wide.parameters()} - {id(p) for p in wide.shared()} == {
        id(p) for p in wide.auxiliary.parameters()
    }
    assert plain(torch.zeros(2, 14, 14))[1].shape == (2, 0)


def test_spreading_solves_its_equations() -> None:
    distances = views(_images().pixels[:40], 0)[0]
    found = spread(distances, 4, neighbours=5)
    # The same by iteration: F ← α S F + Y.
    near, index = distances.topk(6, largest=False)
    graph = torch.zeros(40, 40)
    for i in range(40):
        for j, d in zip(index[i].tolist(), near[i].tolist(), strict=True):
            if i != j:
                weight = (-(d**2) / (near[i, -1] * near[j, -1])).exp()
                graph[i, j], graph[j, i] = max(graph[i, j], weight), max(graph[j, i], weight)
    root = graph.sum(1).sqrt()
    system, target = 0.99 * graph / torch.outer(root, root), torch.eye(40, 4)
    state = torch.zeros(40, 4)
    for _ in range(3000):
        state = system @ state + target
    assert torch.allclose(found, state, rtol=1e-2, atol=1e-4)


def test_views_are_distances() -> None:
    measured = views(_images().pixels[:30], 0)
    assert len(measured) == len(VIEWS)
    for distances in measured:
        assert torch.allclose(distances, distances.T, atol=1e-4)
        assert float(distances.diagonal().max()) < 0.1
        assert float(distances.min()) >= 0


def test_no_opinion_of_a_fold_has_seen_its_labels() -> None:
    task = _task()
    known = _known(task)
    held = torch.arange(len(task.main_y)) % FOLDS == 2
    changed = torch.where(held, (task.main_y + 1) % CLASSES, task.main_y)
    other = opinions(task.main_x, changed, task.pool_x, folds=FOLDS, seed=task.seed)
    assert torch.equal(known.folds[2], other.folds[2])
    assert torch.equal(known.held[held], other.held[held])
    assert not torch.equal(known.folds[1], other.folds[1])
    assert not torch.equal(known.pool, other.pool)


def test_the_teacher_finds_the_view_that_is_right() -> None:
    # View 3 is right, the others are noise.
    task = _task(steps=100)
    generator = torch.Generator().manual_seed(1)

    def made(classes: torch.Tensor, *lead: int) -> torch.Tensor:
        noise = torch.randn(*lead, len(classes), len(VIEWS), CLASSES, generator=generator)
        noise[..., 3, :] = 3 * functional.one_hot(classes, CLASSES)
        return noise.softmax(-1)

    known = Opinions(made(task.pool_y), made(task.pool_y, FOLDS), made(task.main_y))
    alone = learn_teacher(task, known, PooledLabels(len(VIEWS), sharpness=8.0), TeacherSearch(rate=0.05))
    assert int(alone.weights.argmax()) == 3
    fitted = fitted_teacher(known, task.main_y, sharpness=8.0)
    assert int(fitted.weights.argmax()) == 3
    before = fitted.weights
    refined = learn_teacher(task, known, fitted, TeacherSearch())
    assert int(refined.weights.argmax()) == 3
    assert not torch.equal(refined.weights, before)


def test_a_frozen_generator_is_maxl_f_and_a_learned_one_is_not() -> None:
    task = _task(steps=20)
    frozen, learned = train_maxl(task, learned=False), train_maxl(task, rate=0.1)
    assert not torch.equal(frozen.main.weight, learned.main.weight)


def test_the_pool_changes_a_student_only_if_it_is_used() -> None:
    task = _task()
    alone = train(task)
    nothing = train(task, loss=lambda _, __, main, ___: 0.0 * main.sum())
    assert torch.allclose(alone.main.weight, nothing.main.weight, atol=1e-5)


def test_k_means_finds_separate_heaps() -> None:
    generator = torch.Generator().manual_seed(0)
    heap = torch.arange(60) % 3
    points = 10 * torch.eye(3)[heap] + 0.1 * torch.randn(60, 3, generator=generator)
    found = k_means(points, 3, seed=0)
    assert len(set(zip(found.tolist(), heap.tolist(), strict=True))) == 3
