"""Tasks on images: their labels have the quality that their kind says, and no main label of the pool is in them."""

import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from auxilearn.data import few_labels
from auxilearn.errors import InputError
from auxilearn.experiments.given._annotators import Annotators
from auxilearn.experiments.given._attributes import Attributes
from auxilearn.experiments.given._harmful import Harmful
from auxilearn.experiments.given._image_task import image_task, numbered, read
from auxilearn.experiments.given._label_noise import LabelNoise
from auxilearn.experiments.given._labels import attributes, look_alikes, mostly
from auxilearn.experiments.given._losses import Sources, image_losses
from auxilearn.experiments.given._mixed import Mixed
from auxilearn.experiments.given._useless import Useless
from auxilearn.experiments.harness._experiment import AuxiliaryTask

BUILDERS = [
    Annotators("digits"),
    Attributes("digits", per_class=2),
    Harmful("digits", "weak"),
    Harmful("digits", "strong"),
    Mixed("digits"),
    Useless("digits"),
    Useless("digits", random=0),
    LabelNoise("digits", sources=6),
    LabelNoise("digits", heads="own", sources=6),
    Annotators("mnist", pool=100),
]
Builder = Callable[[int], AuxiliaryTask]


def pool_classes(builder: Builder, seed: int) -> Tensor:
    """Return the true classes of the pool, which the task itself does not have."""
    images = read(builder.dataset)  # type: ignore[attr-defined]
    x, y = builder(seed).problem.data[:2]
    size = int((y < 0).sum())
    rows = few_labels(images.classes, seed=seed, per_class=builder.per_class, pool=size).pool  # type: ignore[attr-defined]
    assert torch.equal(images.pixels[rows], x[y < 0])
    return images.classes[rows]


@pytest.mark.parametrize("builder", BUILDERS, ids=repr)
def test_shapes_masks_and_names_fit_together(builder: Builder) -> None:
    task = builder(0)
    problem, k = task.problem, len(task.kinds)
    values, present = problem.losses(problem.new_model(), problem.data)
    y = problem.data[1]
    assert values.shape == present.shape == (len(y), k)
    assert values.isfinite().all()
    assert task.helpful is not None
    assert task.helpful.shape == (k,)
    assert task.kinds[0] == "main"
    assert bool(task.helpful[0])
    assert len(set(problem.names)) == k
    assert problem.names[0] == "main"
    assert torch.equal(problem.labelled, (y >= 0).nonzero().squeeze(1))
    assert torch.equal(present[:, 0], y >= 0)
    assert torch.equal(present[:, 1:], (y < 0)[:, None].expand(-1, k - 1))
    assert (values[~present] == 0).all()
    logits, labels = problem.logits(problem.new_model(), tuple(t[problem.labelled] for t in problem.data))
    assert logits.shape == (len(labels), 10)
    torch.testing.assert_close(functional.cross_entropy(logits, labels, reduction="none"), values[y >= 0, 0])


@pytest.mark.parametrize("builder", BUILDERS, ids=repr)
def test_the_seed_decides_and_the_global_state_does_not(builder: Builder) -> None:
    before = torch.get_rng_state()
    first, again, other = builder(3), builder(3), builder(4)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.problem.data, again.problem.data, strict=True))
    assert not torch.equal(first.problem.data[0], other.problem.data[0])
    assert first.score(first.problem.new_model()) == again.score(again.problem.new_model())


@pytest.mark.parametrize("builder", BUILDERS[:2], ids=repr)
def test_builders_and_tasks_can_be_sent_to_another_process(builder: Builder) -> None:
    task = pickle.loads(pickle.dumps(builder))(0)
    copy = pickle.loads(pickle.dumps(task))
    assert torch.equal(copy.problem.data[0], task.problem.data[0])
    assert copy.score(copy.problem.new_model()) == task.score(task.problem.new_model())


@pytest.mark.parametrize("builder", BUILDERS, ids=repr)
def test_train_and_test_images_are_disjoint(builder: Builder) -> None:
    task = builder(0)
    images = read(builder.dataset)  # type: ignore[attr-defined]
    train, test = task.problem.data[0], task.score.images  # type: ignore[attr-defined]
    assert len(train) + len(test) == len(images.pixels)
    both = torch.cat([train, test]).flatten(1)
    # Equal as multisets: the same images, each once.
    assert torch.equal(*(x[x.sum(1).argsort(stable=True)].sum(1) for x in (both, images.pixels.flatten(1))))


@pytest.mark.parametrize("builder", BUILDERS, ids=repr)
def test_main_labels_of_the_pool_are_not_in_the_data(builder: Builder) -> None:
    y = builder(0).problem.data[1]
    assert len(y[y >= 0]) == 10 * builder.per_class  # type: ignore[attr-defined]
    assert (y[y < 0] == -1).all()
    assert y[y >= 0].bincount().tolist() == [builder.per_class] * 10  # type: ignore[attr-defined]


def test_the_gradient_does_not_see_what_stands_at_an_absent_loss() -> None:
    problem = Harmful("digits", "strong")(0).problem
    model = problem.new_model()
    x, y, *targets = problem.data
    other = tuple(torch.where((y >= 0)[:, None], torch.ones_like(t), t) for t in targets)
    found = []
    for batch in ((x, y, *targets), (x, y, *other)):
        values, _ = problem.losses(model, batch)
        found.append(torch.autograd.grad(values.sum(), tuple(model.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_losses_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    n, outputs = 7, 10 + 20 + 3 + 2
    z = torch.randn(n, outputs, generator=generator, dtype=torch.float64)
    y = torch.tensor([3, 1, -1, -1, -1, -1, -1])
    sources = Sources(
        torch.randint(10, (5, 2), generator=generator),
        torch.randint(10, (5, 2), generator=generator),
        torch.randint(2, (5, 3), generator=generator).double(),
        torch.randn(5, 2, generator=generator, dtype=torch.float64),
    )
    assert (sources.number, sources.outputs) == (9, outputs)
    values, _ = image_losses(lambda x: z, (z, y, *sources.behind(2)))  # type: ignore[arg-type]
    for row in range(n):
        if row < 2:
            slow = [functional.cross_entropy(z[row, :10], y[row])] + 9 * [z.new_zeros(())]
        else:
            a, o, b, r = (t[row - 2] for t in (sources.answers, sources.own, sources.binary, sources.real))
            slow = [z.new_zeros(())]
            slow += [functional.cross_entropy(z[row, :10], c) for c in a]
            slow += [functional.cross_entropy(z[row, 10 + i : 30 : 2], c) for i, c in enumerate(o)]
            slow += [functional.binary_cross_entropy_with_logits(z[row, 30 + i], t) for i, t in enumerate(b)]
            slow += [(z[row, 33 + i] - t) ** 2 for i, t in enumerate(r)]
        torch.testing.assert_close(values[row], torch.stack(slow))


def test_losses_run_under_vmap_as_one_after_the_other() -> None:
    problem = LabelNoise("digits", heads="own", sources=3)(0).problem
    models = [problem.new_model() for _ in range(2)]
    with torch.no_grad():
        for p in models[1].parameters():
            p.mul_(1.5)
    params, buffers = torch.func.stack_module_state(models)  # type: ignore[arg-type]

    def losses(p: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
        values, _ = problem.losses(lambda x: torch.func.functional_call(models[0], (p, b), (x,)), problem.data)  # type: ignore[arg-type]
        return values

    together = torch.vmap(losses)(params, buffers)
    for found, model in zip(together, models, strict=True):
        torch.testing.assert_close(found, problem.losses(model, problem.data)[0], rtol=1e-4, atol=1e-5)


def test_annotators_are_as_good_as_their_kind() -> None:
    builder = Annotators("digits", good=2, random=2, adversarial=2)
    task = builder(0)
    truth = pool_classes(builder, 0)
    answers = task.problem.data[2][-len(truth) :]
    right = (answers == truth[:, None]).float().mean(0)
    assert right[:2].sub(0.9).abs().max() < 0.04
    assert right[2:4].sub(0.1).abs().max() < 0.04
    assert right[4:].max() < 0.03
    for i in range(2):
        assert abs(float((answers[:, 4 + i] == (truth + 1 + i) % 10).float().mean()) - 0.9) < 0.04
    assert task.helpful.tolist() == [True, True, True, False, False, False, False]


def test_sources_grow_noisier_with_their_index() -> None:
    for heads, floor in (("main", 0.0), ("own", 0.1)):
        builder = LabelNoise("digits", heads=heads, sources=5, informative=5)  # type: ignore[arg-type]
        truth = pool_classes(builder, 0)
        labels = builder(0).problem.data[2 if heads == "main" else 3][-len(truth) :]
        right = (labels == truth[:, None]).float().mean(0)
        expected = 1 - (1 - floor) * builder.replaced()
        assert (right - expected).abs().max() < 0.05
        if heads == "main":
            wrong = labels != truth[:, None]
            assert torch.equal(labels[wrong], look_alikes(truth)[:, None].expand_as(labels)[wrong])
        assert builder(0).helpful.tolist() == [True, True, True, False, False, False]


def test_with_heads_of_their_own_most_sources_are_noise() -> None:
    shares = LabelNoise("digits", heads="own").replaced()
    assert torch.equal(shares[:20], torch.arange(20) / 19)
    assert (shares[19:] == 1).all()
    assert LabelNoise("digits").replaced()[-2] < 1


def test_the_scales_of_harm_are_what_they_say() -> None:
    for harm, number, deviation in (("weak", 0, 1.0), ("medium", 1, 3.0), ("strong", 4, 10.0)):
        builder = Harmful("digits", harm)  # type: ignore[arg-type]
        task, truth = builder(0), pool_classes(Harmful("digits", harm), 0)  # type: ignore[arg-type]
        answers, binary, real = (task.problem.data[i][-len(truth) :] for i in (2, 4, 5))
        assert answers.shape[1] == number
        if number:
            assert (answers == truth[:, None]).float().mean(0).max() < (0.12 if harm == "medium" else 0.09)
        assert torch.equal(binary[:, :10], attributes(truth))
        assert abs(float(binary[:, 10:].mean()) - 0.5) < 0.03
        assert abs(float(real.std()) / deviation - 1) < 0.05
        assert [kind for kind, good in zip(task.kinds, task.helpful.tolist(), strict=True) if good] == [
            "main",
            *["attribute"] * 10,
        ]


def test_a_mixture_has_annotators_as_good_as_their_kind_attributes_and_noise() -> None:
    builder = Mixed("digits", good=1, random=1, adversarial=1, attributes=4, noise=2)
    task, truth = builder(0), pool_classes(builder, 0)
    answers, binary, real = (task.problem.data[i][-len(truth) :] for i in (2, 4, 5))
    right = [(answers == truth[:, None]).float().mean(0), (answers == (truth[:, None] + 1) % 10).float().mean(0)]
    torch.testing.assert_close(
        torch.stack(right), torch.tensor([[0.9, 0.1, 0.01], [0.01, 0.1, 0.9]]), atol=0.04, rtol=0
    )
    assert torch.equal(binary, attributes(truth)[:, :4])
    assert abs(float(real.std()) / 3.0 - 1) < 0.05
    assert task.kinds == ("main", "good", "random", "adversarial", *["attribute"] * 4, *["noise"] * 2)
    assert task.helpful.tolist() == [True, True, False, False, *[True] * 4, False, False]


def test_nothing_but_the_main_task_is_useful_among_useless_ones() -> None:
    task = Useless("digits")(0)
    assert task.helpful.sum() == 1
    assert len(task.kinds) == 25


def test_labels_of_digits() -> None:
    classes = torch.arange(10)
    assert torch.equal(look_alikes(look_alikes(classes)), classes)
    assert (look_alikes(classes) != classes).all()
    assert len({tuple(row) for row in attributes(classes)[:, 3:].tolist()}) == 10  # segments tell the digits apart
    assert (mostly(classes, 0.0, torch.Generator().manual_seed(0)) != classes).all()
    assert numbered(["a", "b", "a"]) == ["a 1", "b 1", "a 2"]


def test_settings_out_of_range_are_told() -> None:
    with pytest.raises(InputError, match="`harm` must be one of"):
        Harmful("digits", "huge")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`heads` must be one of"):
        LabelNoise("digits", heads="both")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`sources` must be an integer of at least 2"):
        LabelNoise("digits", sources=1)
    with pytest.raises(InputError, match="`informative` must be an integer of at least 2"):
        LabelNoise("digits", informative=1)
    with pytest.raises(InputError, match="`sources` must be finite and at least 5"):
        LabelNoise("digits", sources=4, informative=5)
    with pytest.raises(InputError, match="`dataset` must be one of"):
        Annotators("cifar")(0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Ask for fewer"):
        Annotators("digits", pool=1797)(0)


def test_a_pool_label_reaches_the_draw_only() -> None:
    # What the task is made of, when the draw gives nothing away: images, and main labels of the labelled rows.
    task = image_task(
        "digits",
        lambda classes, generator: Sources.of(len(classes), binary=torch.zeros(len(classes), 1)),
        kinds=["nothing"],
        helpful=[False],
        per_class=5,
        pool=100,
        seed=0,
    )
    _, y, *targets = task.problem.data
    assert (y[50:] == -1).all()
    assert all(not t.any() for t in targets)
