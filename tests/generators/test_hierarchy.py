import pytest
import torch

from auxilearn.errors import InputError
from auxilearn.generators import Hierarchy


def test_the_mask_is_each_classes_own_block() -> None:
    hierarchy = Hierarchy((2, 1, 3))
    mask = hierarchy.mask(torch.tensor([2, 0, 1]))
    assert mask.int().tolist() == [[0, 0, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]]
    assert hierarchy.owners.tolist() == [0, 0, 1, 2, 2, 2]
    assert (hierarchy.num_classes, hierarchy.num_subclasses) == (3, 6)


def test_the_blocks_share_nothing_and_leave_nothing_out() -> None:
    hierarchy = Hierarchy((4, 2, 3))
    assert hierarchy.mask(torch.arange(3)).sum(0).tolist() == [1] * 9


def test_sizes_are_a_tuple_whatever_was_given() -> None:
    assert Hierarchy([2, 3]) == Hierarchy((2, 3))
    assert hash(Hierarchy([2, 3])) == hash(Hierarchy((2, 3)))
    assert Hierarchy.even(3, 5).sizes == (5, 5, 5)


@pytest.mark.parametrize("sizes", [(), (2, 0), (2, 1.5), (True,)])
def test_refuses_empty_blocks(sizes) -> None:
    with pytest.raises(InputError, match="sizes"):
        Hierarchy(sizes)


@pytest.mark.parametrize(
    "labels", [torch.tensor([0.0]), torch.tensor([[0]]), torch.tensor([3]), torch.tensor([-1]), torch.tensor([True])]
)
def test_refuses_labels_that_are_no_classes(labels: torch.Tensor) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        Hierarchy((1, 1)).mask(labels)


def test_no_samples_give_an_empty_mask() -> None:
    assert Hierarchy((2, 2)).mask(torch.zeros(0, dtype=torch.long)).shape == (0, 4)
