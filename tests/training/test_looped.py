"""One model after another, and a look at one that leaves it as it was."""

import pytest
from torch import nn

from auxilearn.training._looped import evaluating
from training.tiny import net


def test_evaluation_ends_with_the_modes_as_they_were() -> None:
    model = net(nn.BatchNorm1d(6))
    model[1].eval()

    def fail() -> None:
        with evaluating(model):
            assert not model.training
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [m.training for m in model] == [True, False, True]
