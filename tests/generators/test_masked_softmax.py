import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from auxilearn.errors import InputError
from auxilearn.generators import masked_softmax
from support import DEVICE, close, normal

MASK = torch.tensor([[True, True, False, False], [False, True, True, True], [False, False, False, True]], device=DEVICE)


def test_is_the_softmax_of_the_entries_inside() -> None:
    logits = normal(3, 4)
    found = masked_softmax(logits, MASK)
    for row, mask, exact in zip(found, MASK, logits, strict=True):
        inside = [math.exp(float(z)) for z in exact[mask]]
        assert close(row[mask], torch.tensor(inside, dtype=row.dtype, device=DEVICE) / sum(inside), 1e-12)
        assert bool((row[~mask] == 0).all())


def test_a_large_logit_outside_neither_leaks_nor_drowns_the_others() -> None:
    logits = torch.tensor([[1.0, 2.0, 1e4, -1e4]], device=DEVICE)
    assert torch.equal(masked_softmax(logits, MASK[:1])[:, :2], logits[:, :2].softmax(1))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_outside_does_not_matter(value: float) -> None:
    logits = normal(1, 4)
    spoilt = logits.clone()
    spoilt[:, 2:] = value
    assert torch.equal(masked_softmax(spoilt, MASK[:1]), masked_softmax(logits, MASK[:1]))


def test_very_large_logits_inside_do_not_overflow() -> None:
    assert masked_softmax(torch.tensor([1e30, 1e30, 0.0]), torch.tensor([True, True, False])).tolist() == [
        0.5,
        0.5,
        0.0,
    ]


def test_first_and_second_derivatives() -> None:
    logits = normal(3, 4).double().requires_grad_()
    weights = normal(3, 4, seed=1).double()
    assert gradcheck(lambda z: masked_softmax(z, MASK), logits)
    assert gradgradcheck(lambda z: (weights * masked_softmax(z, MASK)).sum(1), logits)


def test_no_gradient_leaves_the_mask() -> None:
    logits = normal(3, 4).requires_grad_()
    (normal(3, 4, seed=1) * masked_softmax(logits, MASK)).sum().backward()
    assert logits.grad is not None
    assert bool((logits.grad[~MASK] == 0).all())


@pytest.mark.parametrize(
    ("mask", "finding"),
    [
        (torch.ones(3, 4), "float32"),
        (torch.ones(2, 4, dtype=torch.bool), "(2, 4) does not"),
        (torch.zeros(3, 4, dtype=torch.bool), "3 rows have none"),
    ],
)
def test_refuses_a_mask_that_makes_no_sense(mask: torch.Tensor, finding: str) -> None:
    with pytest.raises(InputError) as caught:
        masked_softmax(normal(3, 4), mask.to(DEVICE))
    assert finding in str(caught.value)
