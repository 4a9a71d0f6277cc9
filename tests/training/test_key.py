"""Runs with other settings have other keys, in any process."""

from functools import partial
from typing import Any

import torch

from auxilearn.combiners import MLP
from auxilearn.training import CrossFit, Learned, Training
from auxilearn.training._key import key_of, name_of
from auxilearn.weighting import DWA, Constant, Equal, GradNorm
from training.tiny import adam, losses, sgd


def test_equal_parts_have_equal_keys_and_others_others() -> None:
    parts: list[Any] = [
        Training(),
        Training(seed=1),
        Training(optimizer=sgd),
        Learned(),
        Learned(every=5),
        Learned(outer=CrossFit(4)),
        Learned(combiner=MLP),
        Equal(),
        Equal(scale=0.5),
        Equal(normalise=True),
        Constant([1.0, 2.0]),
        Constant([1.0, 3.0]),
        GradNorm(lr=0.1),
        GradNorm(lr=0.2),
        DWA(),
        DWA(epoch=3),
        [1, 2],
        [1, 3],
    ]
    assert len({key_of([part]) for part in parts}) == len(parts)
    assert key_of([Training(optimizer=adam), Equal()]) == key_of([Training(optimizer=adam), Equal()])


def test_no_address_is_in_a_key() -> None:
    first, second = (Training(optimizer=lambda p: torch.optim.SGD(p, lr=0.1)) for _ in range(2))
    assert repr(first) != repr(second)
    assert key_of([first]) == key_of([second])


def test_names_of_functions() -> None:
    assert name_of(losses) == "losses"
    assert name_of(partial(losses)) == "partial"
