"""Looks at a model that change nothing."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auxilearn.errors import InputError
from auxilearn.training import Learned, Trainer, Training
from auxilearn.training._data import rows_of
from auxilearn.training._evaluate import initial_losses, main_labels, main_losses
from training.tiny import LABELS, data, losses, masked, net, problem, weights_of

NAN = float("nan")


def test_initial_losses_are_mean_absolute_values() -> None:
    def signed(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        found, present = masked(model, batch)
        return found * torch.tensor([1.0, -1.0, 1.0]), present

    found, model = problem(losses=signed), net()
    values, present = masked(model, data())
    present[LABELS:, 0] = False
    expected = torch.stack([values[present[:, k], k].mean() for k in range(3)])
    scale = initial_losses(found, rows_of(found), model, seed=0)
    assert torch.allclose(scale, expected)
    assert scale.dtype == torch.float64
    half = problem(net().bfloat16(), data=tuple(t.bfloat16() if t.is_floating_point() else t for t in data()))
    assert initial_losses(half, rows_of(half), half.new_model(), seed=0).dtype == torch.float32


def test_nothing_is_changed() -> None:
    model = net(nn.BatchNorm1d(6), nn.Dropout(0.5))
    found = problem(model)
    before, random = weights_of(model), torch.get_rng_state()
    initial_losses(found, rows_of(found), model, seed=0)
    main_labels(found, rows_of(found), model)
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(model), strict=True))
    assert torch.equal(random, torch.get_rng_state())
    assert model.training


def rare(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    found = losses(model, batch)
    present = torch.ones_like(found, dtype=torch.bool)
    present[:, 2] = batch[0][:, 0] > 1e3
    return found, present


def test_a_loss_that_few_rows_have_is_looked_for_in_all() -> None:
    x, y, targets = data()
    x, y, targets = (torch.cat([t] * 10) for t in (x, y, targets))  # 600 rows, more than are read at first
    x[7, 0] = 2e3
    for row in range(600):
        if row != 7:
            x[row, 0] = x[row, 0].clamp(max=1.0)
    found = problem(losses=rare, data=(x, y, targets), labelled=None)
    model = found.new_model()
    for seed in range(3):
        scale = initial_losses(found, rows_of(found), model, seed=seed)
        assert torch.allclose(scale[2], losses(model, (x, y, targets))[7, 2])


def zero(model: nn.Module, batch: Any) -> Tensor:
    return losses(model, batch) * torch.tensor([1.0, 0.0, 1.0])


@pytest.mark.parametrize("function", [zero, rare])
def test_a_loss_that_is_zero_or_absent_is_no_unit(function: Any) -> None:
    found = problem(losses=function, names=("main", "one", "two"))
    rows, model = rows_of(found), net()
    k = 1 if function is zero else 2
    with pytest.raises(InputError, match=f"It is 0 or absent: `{found.names[k]}`"):
        initial_losses(found, rows, model, seed=0)
    assert initial_losses(found, rows, model, seed=0, needed=False)[k] == 1


def test_broken_losses_are_named() -> None:
    def broken(model: nn.Module, batch: Any) -> Tensor:
        return losses(model, batch) * torch.tensor([1.0, NAN, 1.0])

    found = problem(losses=broken)
    with pytest.raises(InputError, match="NaN or infinite: `loss 1`"):
        initial_losses(found, rows_of(found), net(), seed=0)
    with pytest.raises(InputError, match="NaN or infinite: `loss 1`"):
        main_losses(found, rows_of(found), net(), torch.arange(3))


def test_main_losses_and_labels() -> None:
    found, model = problem(), net()
    rows = torch.tensor([3, 1, 7])
    assert torch.allclose(main_losses(found, rows_of(found), model, rows), losses(model, data())[rows, 0])
    assert not model.training
    labels = main_labels(found, rows_of(found), model)
    assert labels is not None
    assert torch.equal(labels, data()[1][:LABELS])
    assert main_labels(problem(logits=None), rows_of(found), model) is None


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_class_without_a_logit_is_found_before_training(shift: int) -> None:
    def shifted(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        return model(batch[0])[:, :3], batch[1] + shift

    found = problem(logits=shifted)
    with pytest.raises(InputError, match=r"must return classes from 0 to 2.*They range from"):
        main_labels(found, rows_of(found), net())
    with pytest.raises(InputError, match="must return classes from 0 to 2"):
        Trainer(found, Learned(warmup=2, every=2), Training(steps=10)).fit()


def test_logits_must_be_of_the_whole_batch() -> None:
    found = problem(logits=lambda model, batch: (model(batch[0])[1:, :3], batch[1][1:]))
    with pytest.raises(InputError, match="a row for each sample of the batch"):
        main_labels(found, rows_of(found), net())
