"""The gate passes what helps, refuses what does not, and is not fooled by confidence."""

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn.experiments._gate import calibrated_losses, gate

LABELS = torch.arange(50)[None].expand(40, -1) % 10


def logits(strength: float, seed: int, *, confidence: float = 1.0) -> Tensor:
    noise = torch.randn(40, 50, 10, generator=torch.Generator().manual_seed(seed))
    return confidence * (strength * functional.one_hot(LABELS, 10) + noise)


def test_a_clear_gain_passes() -> None:
    verdict = gate({"main only": logits(1.0, 0), "learned": logits(4.0, 1)}, LABELS)
    assert verdict.chosen == ["learned"] * 40


def test_an_equal_candidate_seldom_passes() -> None:
    verdict = gate({"main only": logits(1.0, 0), "learned": logits(1.0, 1)}, LABELS)
    assert verdict.chosen.count("learned") <= 4  # t > 2 by chance: about 2.5 % of 40


def test_overconfidence_is_calibrated_away() -> None:
    verdict = gate({"main only": logits(1.0, 0), "learned": logits(4.0, 1, confidence=20.0)}, LABELS)
    assert verdict.chosen == ["learned"] * 40
    plain = calibrated_losses(logits(4.0, 1), LABELS)
    sharp = calibrated_losses(logits(4.0, 1, confidence=20.0), LABELS)
    torch.testing.assert_close(plain.mean(1), sharp.mean(1), rtol=0.01, atol=0.02)


def test_the_best_of_several_that_pass_is_chosen() -> None:
    candidates = {"main only": logits(0.5, 0), "equal": logits(3.0, 1), "learned": logits(6.0, 2)}
    assert gate(candidates, LABELS).chosen == ["learned"] * 40
