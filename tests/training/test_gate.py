"""The gate passes what helps, refuses what does not, and is not fooled by confidence."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from auxilearn.errors import InputError
from auxilearn.training import Learned, Problem, Trainer, Training, Verdict, gate
from auxilearn.training._folding import Folding
from auxilearn.training._gate import calibrated_losses
from auxilearn.training._problem import Measured
from support import generator, normal

BASE = normal(50).abs() + 1


def t_value(gain: Tensor) -> float:
    return float(gain.mean() / gain.std()) * math.sqrt(len(gain))


def test_what_is_better_is_chosen() -> None:
    noise = 0.1 * normal(50, seed=1)
    losses = {"main only": BASE, "other": BASE - 0.2 + noise, "learned": BASE - 0.5 - noise}
    verdict = gate(losses)
    assert verdict.chosen == "learned"
    for name in ("other", "learned"):
        assert math.isclose(verdict.t[name], t_value(BASE - losses[name]), rel_tol=1e-6)
        assert math.isclose(verdict.loss[name], float(losses[name].mean()), rel_tol=1e-6)
    assert str(verdict).startswith("The gate chose learned weights. Against main only: other t = +")


def test_a_candidate_must_pass_before_its_loss_counts() -> None:
    noise, wild = 0.1 * normal(50, seed=1), normal(50, seed=2)
    wild = 5 * (wild - wild.mean()) / wild.std()
    step = 5 / math.sqrt(50)  # one standard error of the wild candidate
    losses = {"main only": BASE, "other": BASE - 0.5 + noise, "learned": BASE - wild - 1.4 * step}
    assert gate(losses, threshold=1.5).chosen == "other"
    assert gate(losses, threshold=1.3).chosen == "learned"


def test_it_falls_back_where_nothing_is_significant() -> None:
    noise = normal(50, seed=1)
    losses = {"main only": BASE, "other": BASE + 1, "learned": BASE - noise + noise.mean() - 0.1}
    verdict = gate(losses, threshold=1.0)
    assert verdict.chosen == "main only"
    assert verdict.loss["learned"] < verdict.loss["main only"]
    assert str(verdict).startswith("No auxiliary loss earned its place: training on the main loss alone. Against it:")
    assert gate(losses).chosen == "learned"


def test_a_single_label_is_no_evidence() -> None:
    assert gate({"main only": BASE[:1], "learned": BASE[:1] - 0.9}).chosen == "main only"


def test_equal_losses_are_no_evidence() -> None:
    assert gate({"main only": BASE, "learned": BASE}) == Verdict(
        "main only", {"learned": 0.0}, {"main only": float(BASE.mean()), "learned": float(BASE.mean())}
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_losses_that_are_not_finite_are_never_chosen(value: float) -> None:
    broken = BASE - 0.5
    broken[3] = value
    assert gate({"main only": BASE, "learned": broken}).chosen == "main only"
    assert gate({"main only": BASE, "other": BASE - 0.1, "learned": broken}).chosen == "other"
    with pytest.raises(InputError, match=r"`main only` must be finite\. NaN or infinite for 1 of 50 samples\. Look"):
        gate({"main only": broken, "learned": BASE})


@pytest.mark.parametrize("losses", [{}, {"main only": BASE, "learned": BASE[:3]}, {"main only": BASE[:, None]}])
def test_losses_must_be_of_the_same_samples(losses: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match="a vector for each candidate, of the same samples"):
        gate(losses)


def test_calibration_takes_the_best_temperature_of_its_grid() -> None:
    labels = torch.arange(40) % 4
    logits = 20 * (2 * F.one_hot(labels, 4) + normal(40, 4, seed=2))
    best = math.inf
    for i in range(41):
        temperature = 10 ** (-1 + 2.5 * i / 40)
        p = (logits / temperature).exp()
        p = 0.9 * p / p.sum(1, keepdim=True) + 0.1 / 4
        losses = -p[torch.arange(40), labels].log()
        if float(losses.mean()) < best:
            best, expected = float(losses.mean()), losses
    assert torch.allclose(calibrated_losses(logits, labels).double(), expected, rtol=1e-4, atol=1e-5)


def test_a_sure_mistake_costs_as_much_as_a_tenth_of_a_guess() -> None:
    labels = torch.zeros(40, dtype=torch.long)
    logits = 1e4 * F.one_hot(labels, 4).double()
    logits[0] = logits[0].flip(0)
    found = calibrated_losses(logits, labels)
    assert math.isclose(float(found[0]), math.log(40), rel_tol=1e-5)
    assert torch.allclose(found[1:], torch.full((39,), -math.log(0.925)), rtol=1e-5)


def test_overconfidence_is_calibrated_away() -> None:
    labels = torch.arange(40) % 4
    logits = 2 * F.one_hot(labels, 4) + normal(40, 4, seed=2)
    one, other = (calibrated_losses(scale * logits, labels).mean() for scale in (1.0, 10.0))
    assert math.isclose(float(one), float(other), rel_tol=0.02)
    assert float(F.cross_entropy(10 * logits, labels)) > 2 * float(other)


@pytest.mark.parametrize("signal", [0.0, 1.0, 2.0, 3.0])
def test_a_candidate_that_is_no_better_seldom_passes(signal: float) -> None:
    passed = 0
    for seed in range(200):
        labels = torch.randint(10, (50,), generator=generator(seed))
        first, second = (signal * F.one_hot(labels, 10) + normal(50, 10, seed=1000 * k + seed) for k in (1, 2))
        losses = {"main only": calibrated_losses(first, labels), "other": calibrated_losses(second, labels)}
        passed += gate(losses, threshold=1.5).chosen == "other"
    assert passed < 0.12 * 200


def twice(model: nn.Module, batch: Any) -> Tensor:
    """Return the label's loss as the main loss, and again as the auxiliary one."""
    found = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
    return torch.stack([found, found], 1)


true = Folding.seen


def leaking(self: Folding, measured: Measured, rows: Tensor) -> Measured:
    """Show a model the auxiliary losses of its own fold, too; the main loss is column 0."""
    seen = true(self, measured, rows)
    values, there = seen.values.clone(), seen.present.clone()
    values[..., 1:], there[..., 1:] = measured.values[..., 1:], measured.present[:, 1:]
    return Measured(values, there)


@pytest.mark.parametrize("leak", [False, True])
def test_an_auxiliary_loss_that_gives_the_label_away_does_not_fool_it(
    leak: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The labels are noise, so nothing can be better than the main loss alone. Two standard errors, for at one a
    # candidate passes by chance in every sixth run, and there are two of them.
    if leak:  # the test sees what it is to see
        monkeypatch.setattr(Folding, "seen", leaking)
    chosen: list[str] = []
    for seed in range(3):
        torch.manual_seed(seed)
        x, y = normal(60, 6, seed=seed), torch.randint(3, (60,), generator=generator(seed))
        model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 3)).to(x)
        problem = Problem(model, twice, data=(x, y), logits=lambda model, batch: (model(batch[0]), batch[1]))
        settings = Training(steps=80, batch_size=20, optimizer=lambda w: torch.optim.Adam(w, lr=0.02), seed=seed)
        verdict = Trainer(problem, Learned(warmup=10, threshold=2.0), training=settings).fit().verdict
        assert verdict is not None
        chosen.append(verdict.chosen)
    assert "main only" not in chosen if leak else chosen.count("main only") >= 2
