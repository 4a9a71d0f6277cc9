"""Fixed weights are judged by models that did not see the label: against plain loops."""

from typing import Any

import pytest
import torch
from torch import nn

from auxilearn.training._cross_validation import cross_validated
from auxilearn.training._data import rows_of
from auxilearn.training._evaluate import initial_losses, main_labels
from auxilearn.training._folds import folds_of
from auxilearn.training._gate import calibrated_losses
from auxilearn.training._sampler import Sampler
from training.tiny import LABELS, blank, data, data_of_fold, losses, masked, net, problem, sgd, training

WEIGHTS = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.5, 0.1]])


@pytest.mark.parametrize("used", [None, 1])
@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("function", [losses, masked])
def test_it_is_what_plain_loops_find(function: Any, logits: bool, used: int | None) -> None:
    found = problem(losses=function) if logits else problem(losses=function, logits=None)
    rows, settings = rows_of(found), training(steps=4, optimizer=sgd, max_grad_norm=0.5)
    judged = cross_validated(found, WEIGHTS, settings, folds=3, used=used)
    scale = initial_losses(found, rows, net(), seed=0)
    fold = torch.full((60,), -1)
    fold[:LABELS] = folds_of(main_labels(found, rows, net()), LABELS, 3, seed=0)
    x, y, _ = data()
    held = torch.arange(LABELS)[fold[:LABELS] < (3 if used is None else used)]
    for c, weights in enumerate(WEIGHTS):
        scores = torch.zeros(LABELS, 3, dtype=torch.float64)
        for f in range(3 if used is None else used):
            model = net()
            optimizer, sampler = sgd(model.parameters()), Sampler(rows.labelled, rows.others, batch_size=16, seed=0)
            for _ in range(4):
                drawn = sampler.draw()
                pair = function(model, tuple(t[drawn] for t in data()))
                values, present = pair if isinstance(pair, tuple) else (pair, torch.ones_like(pair, dtype=torch.bool))
                values = values / scale
                foreign = fold[drawn] != f  # of the rows of its own fold a model does not see an auxiliary loss, either
                kept = (fold[drawn] >= 0) & foreign
                total = weights[0] * values[kept, 0].mean()
                for k in (1, 2):
                    total = total + weights[k] * values[present[:, k] & foreign, k].mean()
                optimizer.zero_grad()
                total.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
            own = fold[:LABELS] == f
            scores[own] = model(x[:LABELS][own])[:, :3].detach()
        if logits:
            expected = calibrated_losses(scores[held], y[held])
        else:
            expected = nn.functional.cross_entropy(scores[held], y[held], reduction="none")
        assert torch.allclose(judged[c].double(), expected.double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("used", [3, 1])
@pytest.mark.parametrize("function", [losses, masked])
def test_the_auxiliary_losses_of_a_fold_never_reach_its_model(function: Any, used: int) -> None:
    one, other = (
        cross_validated(
            problem(blank(), losses=function, data=data_of_fold(0, flipped=flipped), logits=None),
            WEIGHTS,
            training(steps=6, optimizer=sgd),
            folds=3,
            used=used,
        )
        for flipped in (False, True)
    )
    fold = folds_of(None, LABELS, 3, seed=0)
    own = fold[fold < used] == 0
    assert torch.equal(one[:, own], other[:, own])
    assert torch.equal(one[0], other[0])  # without auxiliary losses nothing changes
    assert used == 1 or not (one[1, ~own] == other[1, ~own]).any()  # the other models do hear of it
