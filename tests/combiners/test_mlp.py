"""The monotone network on each sample's losses."""

import pytest
import torch
from torch.testing import assert_close

from auxilearn.combiners import MLP
from auxilearn.errors import InputError
from support import DEVICE, DTYPE


def make(**options):
    torch.manual_seed(0)
    combiner = MLP(3, **options).to(DEVICE, DTYPE)
    for p in combiner.parameters():
        p.data += 0.5 * torch.randn(p.shape).to(p)
    return combiner


def draw(batch=6):
    return 3 * torch.rand(batch, 3, generator=torch.Generator().manual_seed(1)).to(DEVICE, DTYPE)


def test_is_the_network_of_its_parts():
    combiner, losses = make(hidden=(4, 2), main=0), draw()
    first, second = combiner.layers
    hidden = combiner.bends[0](losses @ first().T)
    hidden = combiner.bends[1](hidden @ second().T)
    assert_close(combiner(losses), (hidden @ combiner.head()).mean() + losses[:, 0].mean())


def test_samples_do_not_mix():
    combiner, losses = make(), draw()
    assert_close(combiner(losses), torch.stack([combiner(row) for row in losses]).mean())


@pytest.mark.parametrize("bend", ["learned", "convex", "concave"])
def test_no_loss_gives_no_combined_loss(bend):
    combiner = make(bend=bend)
    assert combiner(torch.zeros_like(draw())).item() == pytest.approx(0.0, abs=10 * torch.finfo(DTYPE).eps)
    assert combiner(draw()).item() > 0


def test_convex_counts_large_losses_more_and_concave_less():
    small, large = torch.full((1, 3), 0.2).to(DEVICE, DTYPE), torch.full((1, 3), 5.0).to(DEVICE, DTYPE)
    convex, concave = make(bend="convex"), make(bend="concave")
    assert (convex.weights_at(small) < convex.weights_at(large)).all()
    assert (concave.weights_at(small) > concave.weights_at(large)).all()


def test_can_learn_to_ignore_samples_with_large_losses():
    # ln(1 + ℓ) is concave; a network of softplus units with positive weights can only be convex.
    losses = torch.linspace(0, 6, 40, dtype=torch.float64)[:, None]
    target = losses.log1p().squeeze(1)
    errors = {}
    for bend in ("learned", "convex"):
        combiner = MLP(1, hidden=(6,), bend=bend, generator=torch.Generator().manual_seed(0)).double()
        optimizer = torch.optim.Adam(combiner.parameters(), lr=0.1)
        for _ in range(200):
            optimizer.zero_grad()
            found = torch.func.vmap(combiner)(losses)
            error = (found - target).square().mean()
            error.backward()
            optimizer.step()
        errors[bend] = error.item()
    assert errors["learned"] < 0.01 < 0.05 < errors["convex"]


def test_has_no_bias_after_the_last_layer():
    assert {n for n, _ in MLP(2, hidden=(3,)).named_parameters()} == {
        "layers.0.theta",
        "bends.0.shift",
        "bends.0.tau",
        "head.theta",
    }


def test_refuses_unknown_bends():
    with pytest.raises(InputError, match="`bend`"):
        MLP(2, bend="relu")
