import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from auxilearn import BilevelProblem, hypergradient, unrolled
from auxilearn.errors import InputError
from auxilearn.generators import (
    ConditionalLabels,
    Hierarchy,
    InputLabels,
    LabelGenerator,
    PooledLabels,
    collapse_penalty,
    soft_cross_entropy,
)
from auxilearn.solvers import Dense
from support import DEVICE, DTYPE, close, normal

HIERARCHY = Hierarchy((2, 3))
LABELS = torch.tensor([0, 1, 1, 0, 1, 0], device=DEVICE)


def _network(outputs: int = 5) -> nn.Module:
    network = nn.Linear(4, outputs, dtype=DTYPE, device=DEVICE)
    for p in network.parameters():
        p.data.copy_(normal(*p.shape, seed=p.dim()))
    return network


def _pooled() -> PooledLabels:
    teacher = PooledLabels(3, sharpness=2.0).to(DEVICE, DTYPE)
    teacher.theta.data.copy_(normal(3, seed=7))
    return teacher


MAKERS: dict[str, tuple[Callable[[], LabelGenerator], Callable[[], Tensor]]] = {
    "conditional": (lambda: ConditionalLabels(_network(), HIERARCHY), lambda: normal(6, 4)),
    "input": (lambda: InputLabels(_network()), lambda: normal(6, 4)),
    "pooled": (_pooled, lambda: normal(6, 3, 5, seed=3).softmax(-1)),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_contract(kind: str) -> None:
    make, draw = MAKERS[kind]
    teacher, inputs = make(), draw()
    found = teacher(inputs, LABELS)
    assert found.shape == (6, 5)
    assert found.dtype == DTYPE
    assert bool((found >= 0).all())
    assert close(found.sum(1), torch.ones(6, dtype=DTYPE, device=DEVICE), 1e-6)
    assert torch.equal(found, teacher(inputs, LABELS))
    # It can be copied, saved and called with other parameters.
    assert torch.equal(copy.deepcopy(teacher)(inputs, LABELS), found)
    other = make()
    other.load_state_dict(teacher.state_dict())
    assert torch.equal(other(inputs, LABELS), found)
    assert torch.equal(functional_call(teacher, dict(teacher.named_parameters()), (inputs, LABELS)), found)
    assert repr(teacher)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_hypergradient_through_a_student_is_that_of_retraining(kind: str) -> None:
    make, draw = MAKERS[kind]
    teacher, inputs = make().double(), draw().double()
    names = [name for name, _ in teacher.named_parameters()]
    x, target = normal(6, 2).double(), normal(6, 5, seed=5).double().softmax(1)

    def train_loss(W: tuple[Tensor, ...], phi: tuple[Tensor, ...]) -> Tensor:
        labels = functional_call(teacher, dict(zip(names, phi, strict=True)), (inputs, LABELS))
        return soft_cross_entropy(x @ W[0], labels).mean() + 0.5 * W[0].square().sum()

    def val_loss(W: tuple[Tensor, ...], phi: tuple[Tensor, ...]) -> Tensor:
        labels = functional_call(teacher, dict(zip(names, phi, strict=True)), (inputs, LABELS))
        return soft_cross_entropy(x @ W[0], target).mean() + 0.2 * collapse_penalty(labels)

    phi = tuple(teacher.parameters())
    W = torch.zeros(2, 5, dtype=torch.float64, device=DEVICE)
    problem = BilevelProblem(train_loss, val_loss, (W,), tuple(p.detach() for p in phi))
    exact = unrolled(problem, steps=300, lr=0.5)
    W = exact.params[0].requires_grad_()
    found = hypergradient(train_loss((W,), phi), val_loss((W,), phi), params=[W], aux_params=phi, solver=Dense())
    for a, b in zip(found.grads, exact.grads, strict=True):
        assert close(a, b, 1e-7)


def test_conditional_labels_are_those_of_each_block_alone() -> None:
    network = _network()
    found = ConditionalLabels(network, HIERARCHY, temperature=2.0)(normal(6, 4), LABELS)
    scores = network(normal(6, 4)) / 2
    for row, score, label in zip(found, scores, LABELS.tolist(), strict=True):
        block = slice(0, 2) if label == 0 else slice(2, 5)
        assert close(row[block], score[block].softmax(0), 1e-6)
        assert row.count_nonzero() == len(row[block])


def test_input_labels_soften_with_the_temperature() -> None:
    network = _network()
    assert close(InputLabels(network, temperature=3.0)(normal(6, 4)), (network(normal(6, 4)) / 3).softmax(1), 1e-6)


def test_pooled_labels_are_the_weighted_geometric_mean() -> None:
    teacher, opinions = _pooled(), normal(6, 3, 5, seed=3).softmax(-1)
    total = sum(math.exp(t) for t in teacher.theta.tolist())
    weights = [2.0 * math.exp(t) / total for t in teacher.theta.tolist()]
    product = torch.stack([opinions[:, v] ** w for v, w in enumerate(weights)]).prod(0)
    assert close(teacher(opinions), product / product.sum(1, keepdim=True), 1e-6)
    assert teacher.weights.tolist() == pytest.approx(weights, rel=1e-5)


def test_no_opinion_has_a_veto() -> None:
    certain = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = PooledLabels(3, sharpness=3.0)(certain)
    assert bool(torch.isfinite(found).all())
    assert found[1] > 0.99


def test_opinions_may_have_leading_dimensions() -> None:
    teacher, opinions = _pooled(), normal(2, 6, 3, 5).softmax(-1)
    assert close(teacher(opinions)[1], teacher(opinions[1]), 1e-6)


@pytest.mark.parametrize(
    ("call", "finding"),
    [
        (lambda: ConditionalLabels(_network(), HIERARCHY)(normal(6, 4)), "There are none"),
        (lambda: ConditionalLabels(_network(), HIERARCHY)(normal(5, 4), LABELS), "There are 6 for 5"),
        (lambda: ConditionalLabels(_network(4), HIERARCHY)(normal(6, 4), LABELS), "(6, 4)"),
        (lambda: ConditionalLabels(_network(), HIERARCHY, temperature=0.0), "`temperature`"),
        (lambda: InputLabels(_network(1))(normal(6, 4)), "(6, 1)"),
        (lambda: InputLabels(nn.Identity())(torch.zeros(2, 3, dtype=torch.long)), "int64"),
        (lambda: InputLabels(_network())(torch.full((6, 4), torch.nan, dtype=DTYPE, device=DEVICE)), "30 of 30"),
        (lambda: PooledLabels(0), "`opinions`"),
        (lambda: PooledLabels(2, sharpness=0.0), "`sharpness`"),
        (lambda: PooledLabels(2)(torch.zeros(5, 3, 4)), "(5, 3, 4)"),
        (lambda: PooledLabels(2)(torch.zeros(2)), "(2,)"),
        (lambda: PooledLabels(2)(-torch.ones(5, 2, 4)), "negative"),
        (lambda: PooledLabels(2)(torch.full((5, 2, 4), torch.nan)), "NaN"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], finding: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert finding in str(caught.value)
