"""A problem made from live modules is the same as one written with functions."""

import copy

import torch
from torch import Tensor, nn

from auxilearn import BilevelProblem
from support import DEVICE, DTYPE


def modules() -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(DEVICE, DTYPE)
    model[0].bias.requires_grad_(False)
    combiner = nn.Linear(2, 1, bias=False).to(DEVICE, DTYPE)
    return model, combiner, torch.randn(5, 3).to(DEVICE, DTYPE)


def test_losses_are_evaluated_at_the_parameters_given() -> None:
    model, combiner, x = modules()
    problem = BilevelProblem.from_modules(
        [model], [combiner], lambda: combiner(model(x).square()).mean(), lambda: model(x)[:, 0].mean()
    )
    assert len(problem.params) == 3  # the frozen bias is a constant
    moved_model, moved_combiner = copy.deepcopy(model), copy.deepcopy(combiner)
    with torch.no_grad():
        for p in [*moved_model.parameters(), *moved_combiner.parameters()]:
            if p.requires_grad:
                p.add_(0.1)
    W = tuple(w.detach() + 0.1 for w in problem.params)
    phi = tuple(p.detach() + 0.1 for p in problem.aux_params)
    torch.testing.assert_close(problem.train_loss(W, phi), moved_combiner(moved_model(x).square()).mean())
    torch.testing.assert_close(problem.val_loss(W, phi), moved_model(x)[:, 0].mean())


def test_the_modules_keep_their_parameters() -> None:
    model, combiner, x = modules()
    before = copy.deepcopy(model.state_dict())
    problem = BilevelProblem.from_modules(
        [model], [combiner], lambda: combiner(model(x)).mean(), lambda: model(x).mean()
    )
    problem.train_loss(tuple(w + 1 for w in problem.params), problem.aux_params)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
