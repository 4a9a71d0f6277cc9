"""The settings of the inner training are in range."""

from typing import Any

import pytest
import torch
from torch import nn

from auxilearn.errors import InputError
from auxilearn.training import Training
from auxilearn.training._settings import adam

SOME = nn.Parameter(torch.ones(1))


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"accumulate": 0},
        {"precision": "half"},
        {"max_grad_norm": 0.0},
        {"max_grad_norm": float("nan")},
        {"seed": -1},
        {"seed": 0.5},
        {"seed": 2**63},
        {"optimizer": torch.optim.SGD([SOME], lr=0.1)},
        {"optimizer": "adam"},
        {"scheduler": torch.optim.lr_scheduler.StepLR(torch.optim.SGD([SOME], lr=0.1), 3)},
    ],
)
def test_what_is_out_of_range_is_refused(changes: Any) -> None:
    name = next(iter(changes))
    with pytest.raises(InputError, match=f"`{name}` must"):
        Training(**changes)


def test_the_default_optimizer() -> None:
    assert adam([SOME]).defaults["lr"] == 2e-3
