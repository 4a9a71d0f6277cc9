"""Cross-fitting: models of all folds at once, labels that stay where they belong, and evidence for the gate."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auxilearn import hypergradient
from auxilearn.combiners import MLP, Bent, DeepLinear, Linear, LossCombiner
from auxilearn.errors import InputError
from auxilearn.solvers import Identity
from auxilearn.training import CrossFit, Problem, SecondBatch
from auxilearn.training import _search as module
from auxilearn.training._data import rows_of
from auxilearn.training._evaluate import initial_losses
from auxilearn.training._folding import Folding
from auxilearn.training._gate import LEARNED, MAIN_ONLY, calibrated_losses
from auxilearn.training._looped import Looped
from auxilearn.training._search import Search, significance
from auxilearn.training._vectorised import Vectorised
from support import close
from training.tiny import (
    LABELS,
    blank,
    data,
    data_of_fold,
    learned,
    losses,
    masked,
    net,
    problem,
    same,
    sgd,
    training,
    weights_of,
)

FOLDS = 3


def search(
    found: Problem | None = None, *, folds: int = FOLDS, gate: bool = True, policy: Any = CrossFit, **changes: Any
) -> Search:
    found = problem() if found is None else found
    inner = {k: changes.pop(k) for k in list(changes) if k in {"accumulate", "max_grad_norm", "precision", "steps"}}
    rows, start = rows_of(found), found.new_model()
    torch.manual_seed(0)
    scale = initial_losses(found, rows, start, seed=0)
    method = learned(outer=policy(folds), gate=gate, **changes)
    return Search(found, rows, method, training(optimizer=sgd, **inner), start, scale)


def phi(found: Search) -> list[Tensor]:
    return [p.detach().clone() for p in found._upper.phi]


@pytest.mark.parametrize("function", [losses, masked])
@pytest.mark.parametrize("middle", [(), (nn.BatchNorm1d(6), nn.Tanh())])
@pytest.mark.parametrize(
    ("combiner", "policy"),
    [(Linear, CrossFit), (DeepLinear, CrossFit), (Bent, CrossFit), (MLP, CrossFit), (Linear, SecondBatch)],
)
def test_a_looped_search_finds_the_same(
    function: Any, middle: Any, combiner: Any, policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = problem(net(*middle), losses=function)
    one = search(found, combiner=combiner, policy=policy)
    assert isinstance(one._models, Vectorised)
    monkeypatch.setattr(
        module,
        "fleet",
        lambda task, start, size, *_: Looped(task, [deepcopy(start) for _ in range(size)]),
    )
    other = search(found, combiner=combiner, policy=policy)
    assert isinstance(other._models, Looped)
    for _ in range(7):
        one.step()
        other.step()
        assert torch.allclose(one.means, other.means, rtol=1e-6)
    for p, q in zip(phi(one), phi(other), strict=True):
        assert close(p, q, 1e-4)
    a, b = one.found(), other.found()
    assert a.path.shape == b.path.shape == (3, 2)
    assert torch.allclose(a.scores, b.scores, rtol=1e-3, atol=1e-6)
    for name in (MAIN_ONLY, LEARNED):
        assert torch.allclose(a.out_of_fold[name], b.out_of_fold[name], rtol=1e-4)


def test_the_models_are_those_of_plain_loops() -> None:
    # Main only, and learned at its start: of each a model without the rows of its fold.
    found = search(warmup=100)
    fold, scale = found._folding.fold, found._scale
    draws = search(warmup=100)
    batches = [draws._sampler.draw() for _ in range(5)]
    for _ in range(5):
        found.step()
    for f in range(FOLDS):
        for name, auxiliary in ((MAIN_ONLY, 0.0), (LEARNED, 1.0)):
            model = net()
            optimizer = sgd(model.parameters())
            for rows in batches:
                values = losses(model, tuple(t[rows] for t in data())) / scale
                foreign = fold[rows] != f
                kept = (fold[rows] >= 0) & foreign
                total = values[kept, 0].mean() + auxiliary * values[foreign, 1:].mean(0).sum()
                optimizer.zero_grad()
                total.backward()
                optimizer.step()
            fleet = {MAIN_ONLY: found._main, LEARNED: found._models}[name]
            assert fleet is not None
            for p, q in zip(model.parameters(), fleet.module(f).parameters(), strict=True):
                assert close(p.detach(), q.detach(), 1e-6)


def test_outer_steps_mix_the_hypergradients_of_each_model_alone() -> None:
    found = search(warmup=0)
    for p in found._upper.phi:
        p.data += 0.2 * torch.arange(p.numel()).view(p.shape).float().sin()
    rows = found._sampler.draw()
    own = []
    for f in range(FOLDS):
        model, combiner = found._models.module(f), Linear(2, cap=3.0)
        combiner.weight.theta.data.copy_(found._upper.phi[0][f])
        values = losses(model, tuple(t[rows] for t in data())) / found._scale
        mine = found._folding.fold[rows] == f
        kept = (found._folding.fold[rows] >= 0) & ~mine
        result = hypergradient(
            values[kept, 0].mean() + combiner(values[~mine, 1:].mean(0)),
            values[mine, 0].mean(),
            params=model.parameters(),
            aux_params=combiner.parameters(),
            solver=Identity(),
        )
        own.append(result.grads[0])
    seen: list[Tensor] = []
    found._upper.optimizer.register_step_pre_hook(lambda *_: seen.append(found._upper.phi[0].grad.clone()))
    found._outer_step(rows)
    for row in range(FOLDS + 1):
        others = [own[m] for m in range(FOLDS) if m != row]
        median = torch.stack([g.norm() for g in others]).median()
        expected = torch.stack([g / g.norm() * median for g in others]).mean(0)
        assert close(seen[0][row], expected, 1e-4)


def combined(combiner: LossCombiner, function: Any, model: nn.Module, rows: Tensor, scale: Tensor) -> Tensor:
    """Combine the auxiliary losses of some rows, as the Trainer's model would if there were no others."""
    found = function(model, tuple(t[rows] for t in data()))
    values, present = found if isinstance(found, tuple) else (found, torch.ones_like(found, dtype=torch.bool))
    values, present = (values / scale)[:, 1:], present[:, 1:]
    if isinstance(combiner, (Linear, DeepLinear)):
        return combiner(torch.stack([values[present[:, k], k].mean() for k in range(2)]))
    return combiner(torch.where(present, values, 0.0)[present.any(1)])


@pytest.mark.parametrize("labels", [LABELS, 12])
@pytest.mark.parametrize("function", [losses, masked])
@pytest.mark.parametrize("build", [None, DeepLinear, MLP, Bent])
def test_with_a_second_batch_each_model_follows_labels_that_it_trains_on(
    build: Any, function: Any, labels: int
) -> None:
    # With 24 labels a step sees 16, and the outer batch is another one; with 12 it is the same.
    task = problem(losses=function, labelled=torch.arange(labels))
    changes = {} if build is None else {"combiner": build}
    found, draws = (search(task, policy=SecondBatch, warmup=0, **changes) for _ in range(2))
    rows = draws._sampler.draw()
    second = draws._outer_sampler.draw() if labels == LABELS else rows
    for i, p in enumerate(found._upper.phi):
        p.data += 0.2 * torch.arange(p.numel()).view(p.shape).add(i).float().sin()
    before, scale = phi(found), found._scale
    seen: list[list[Tensor]] = []
    found._upper.optimizer.register_step_pre_hook(
        lambda *_: seen.append([p.grad.clone() for p in found._upper.phi if p.grad is not None])
    )
    found.step()
    for f in range(FOLDS):
        model, combiner = net(), deepcopy(found._upper._skeleton)
        for p, q in zip(combiner.parameters(), before, strict=True):
            p.data.copy_(q[f])
        foreign = [r[found._folding.fold[r] != f] for r in (rows, second)]

        def main(r: Tensor, model: nn.Module = model) -> Tensor:
            return losses(model, tuple(t[r[r < labels]] for t in data()))[:, 0].mean() / scale[0]

        result = hypergradient(
            main(foreign[0]) + combined(combiner, function, model, foreign[0], scale),
            main(foreign[1]),
            params=model.parameters(),
            aux_params=combiner.parameters(),
            solver=Identity(),
        )
        whole = torch.cat([g.flatten() for g in result.grads])
        assert close(torch.cat([g[f].flatten() for g in seen[0]]), whole, 1e-4)
        # The step of the model itself, by the combiner that was just moved.
        for p, q in zip(combiner.parameters(), phi(found), strict=True):
            p.data.copy_(q[f])
        optimizer = sgd(model.parameters())
        optimizer.zero_grad()
        (main(foreign[0]) + combined(combiner, function, model, foreign[0], scale)).backward()
        optimizer.step()
        for p, q in zip(model.parameters(), found._models.module(f).parameters(), strict=True):
            assert close(p.detach(), q.detach(), 1e-6)


def test_a_label_is_no_outer_target_of_the_row_that_it_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    # The labels of fold 1 change in the outer loss alone: row 1 must not hear of it.
    paths = []
    true = Folding.held
    for shift in (0.0, 0.5):

        def shifted(self: Folding, measured: Any, rows: Tensor, main: int, shift: float = shift) -> Tensor:
            held = true(self, measured, rows, main)
            factor = torch.ones(len(held), dtype=held.dtype)
            factor[1] += shift
            return held * factor + shift * held.detach()

        monkeypatch.setattr(Folding, "held", shifted)
        found = search(warmup=0, every=100)
        found.step()
        paths.append(phi(found)[0])
    assert torch.equal(paths[0][1], paths[1][1])


def test_the_labels_of_a_fold_change_only_what_they_may() -> None:
    x, y, targets = data()
    fold = search()._folding.fold
    other = y.clone()
    other[fold == 1] = (other[fold == 1] + 1) % 3
    found = []
    for labels in (y, other):
        # Without `logits`, so that the folds are the same.
        task = problem(data=(x, labels, targets), logits=None)
        each = search(task, warmup=0, every=100)
        each._folding, each._scale = Folding(fold, FOLDS), torch.ones(3)
        each.step()
        found.append(each)
    rows = [phi(each)[0] for each in found]
    own = [each._models.module(1).state_dict() for each in found]
    assert torch.equal(rows[0][1], rows[1][1])
    assert all(torch.equal(a, own[1][n]) for n, a in own[0].items())
    for row in (0, 2, 3):
        assert not torch.equal(rows[0][row], rows[1][row])
    assert not torch.equal(*(each._models.module(0)[0].weight for each in found))


def still(phi: Any) -> torch.optim.Optimizer:
    """Return an outer optimizer that moves nothing."""
    return torch.optim.SGD(phi, lr=0.0)


@pytest.mark.parametrize("combiner", [Linear, DeepLinear, MLP, Bent])
@pytest.mark.parametrize("function", [losses, masked])
@pytest.mark.parametrize("policy", [SecondBatch, CrossFit])
def test_the_auxiliary_losses_of_a_fold_never_reach_its_model(policy: Any, function: Any, combiner: Any) -> None:
    # With a second batch not through the combiner, either. With `CrossFit` a fold's combiner learns from the other
    # models, which train on that fold; so it stands still here, and only the models are compared.
    changes: Any = {} if policy is SecondBatch else {"optimizer": still}
    found = []
    for flipped in (False, True):
        task = problem(blank(), losses=function, data=data_of_fold(1, flipped=flipped), logits=None)
        each = search(task, policy=policy, combiner=combiner, warmup=1, every=2, max_grad_norm=0.5, **changes)
        found.append(each)
    one, other = found
    assert torch.equal(one._folding.fold, other._folding.fold)
    assert torch.equal(one._scale, other._scale)  # so the units do not tell the data apart
    assert one._main is not None
    assert other._main is not None
    for _ in range(6):
        one.step()
        other.step()
        assert same(weights_of(one._models.module(1)), weights_of(other._models.module(1)))
        assert same(weights_of(one._main.module(1)), weights_of(other._main.module(1)))
        assert all(torch.equal(p[1], q[1]) for p, q in zip(phi(one), phi(other), strict=True))
        assert torch.equal(one._scores[1], other._scores[1])
    for f in (0, 2):  # the other models do hear of it
        assert not same(weights_of(one._models.module(f)), weights_of(other._models.module(f)))
        assert not torch.equal(one._scores[f], other._scores[f])
    first, second = one.found().out_of_fold, other.found().out_of_fold
    own = one._folding.fold[:LABELS] == 1
    for name in (MAIN_ONLY, LEARNED):
        assert torch.equal(first[name][own], second[name][own])
        assert torch.equal(first[name][~own], second[name][~own]) == (name == MAIN_ONLY)


def test_out_of_fold_losses_are_those_of_the_model_that_did_not_see_the_label() -> None:
    for calibrated in (True, False):
        found = search(problem(net(nn.BatchNorm1d(6), nn.Dropout(0.2))) if calibrated else problem(logits=None))
        for _ in range(3):
            found.step()
        judged = found.found().out_of_fold
        for name, fleet in {MAIN_ONLY: found._main, LEARNED: found._models}.items():
            assert fleet is not None
            models = [fleet.module(f).eval() for f in range(FOLDS)]
            x, y, _ = data()
            logits = torch.stack(
                [models[int(found._folding.fold[i])](x[i : i + 1])[0, :3] for i in range(LABELS)]
            ).detach()
            plain = nn.functional.cross_entropy(logits, y[:LABELS], reduction="none")
            expected = calibrated_losses(logits, y[:LABELS]) if calibrated else plain
            assert torch.allclose(judged[name].double(), expected.double(), rtol=1e-4, atol=1e-6)


def test_without_the_gate_there_are_only_learned_models() -> None:
    found = search(gate=False)
    assert found._main is None
    assert found._models.size == FOLDS
    for _ in range(4):
        found.step()
    outcome = found.found()
    assert list(outcome.out_of_fold) == [LEARNED]
    assert outcome.trouble is None
    fresh = search(gate=False).found()
    assert fresh.path.shape == (0, 2)


def test_each_model_is_clipped_by_itself() -> None:
    found, alone = search(max_grad_norm=1e-3, warmup=100), search(max_grad_norm=1e-3, warmup=100, gate=False)
    found.step()
    alone.step()
    for f in range(FOLDS):  # the models beside them change nothing
        for p, q in zip(found._models.module(f).parameters(), alone._models.module(f).parameters(), strict=True):
            assert torch.allclose(p, q, rtol=1e-9)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_searches(precision: Any) -> None:
    values = tuple(t.float() if t.is_floating_point() else t for t in data())
    found = search(problem(net(dtype=torch.float32), data=values), precision=precision, accumulate=2)
    for _ in range(8):
        found.step()
    outcome = found.found()
    assert outcome.path.shape == (3, 2)
    assert all(v.isfinite().all() for v in outcome.out_of_fold.values())


def test_broken_losses_stop_the_search() -> None:
    broken: list[bool] = []

    def breaking(model: nn.Module, batch: Any) -> Tensor:
        return losses(model, batch) * (torch.nan if broken else 1.0)

    found = search(problem(losses=breaking))
    for _ in range(3):
        found.step()
    before, state = phi(found), deepcopy(found._models.state_dict())
    broken.append(True)
    with pytest.raises(InputError, match=r"Every loss must be finite\. NaN or infinite: `main`"):
        found.step()
    assert found.number == 3
    assert same(before, phi(found))
    assert all(torch.equal(t, state[n]) for n, t in found._models.state_dict().items())


def test_the_weights_are_those_of_the_last_outer_step() -> None:
    found = search()
    assert found.weights.tolist() == [1.0, 1.0, 1.0]
    for _ in range(5):
        found.step()
    assert found.weights[0] == 1
    assert torch.equal(found.weights[1:].float(), found.found().path[-1].float())


def test_it_goes_on_where_it_stood() -> None:
    task = problem(net(nn.BatchNorm1d(6), nn.Dropout(0.3)))
    one, other = search(task, combiner=MLP), search(task, combiner=MLP)
    for _ in range(5):
        one.step()
    other.load_state_dict(deepcopy(one.state_dict()))
    for each in (one, other):
        torch.manual_seed(1)
        for _ in range(3):
            each.step()
    a, b = one.state_dict(), other.state_dict()
    assert str(a["upper"]) == str(b["upper"])
    assert all(torch.equal(t, b["models"][n]) for n, t in a["models"].items())
    assert all(torch.equal(t, b["main"][n]) for n, t in a["main"].items())
    assert torch.equal(one.means, other.means)
    assert torch.equal(one.found().scores, other.found().scores)


def test_significance_is_a_t_value_over_the_folds() -> None:
    scores = torch.tensor([[1.0, -1.0, 0.0], [2.0, -1.1, 0.0], [3.0, -0.9, 0.0]])
    found = significance(scores)
    assert torch.allclose(found[0], torch.tensor(2.0 / (1.0 / 3**0.5)))
    assert found[1] < -10
    assert found[2] == 0
    assert significance(scores[:1]).isnan().all()


def test_there_must_be_a_label_for_every_fold() -> None:
    with pytest.raises(InputError, match="There are 24 labels for 25 folds"):
        search(folds=25)
