"""Products through float16: as good for a small or a large vector as for one of size 1, scaled or not."""

from typing import Any

import pytest
import torch
from torch import nn

from auxilearn import Vector
from auxilearn.curvature import CompiledHessian, GaussNewton, Hessian, LossCurvature
from auxilearn.curvature._half_range import centred
from support import DEVICE, close, normal


class World:
    """A network in float32, whose losses are weighted by exp(φ)."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3)).to(DEVICE)
        self.params = list(self.net.parameters())
        self.phi = torch.zeros(3, device=DEVICE, requires_grad=True)
        self.x, self.y = normal(32, 4, dtype=torch.float32), normal(32, 3, dtype=torch.float32, seed=1)

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return ((self.net(x) - y).square() @ self.phi.exp()).mean()

    def operator(self, kind: str, **settings: Any) -> LossCurvature:
        if kind == "CompiledHessian":
            return CompiledHessian(self.loss, [self.net], backend="aot_eager")(self.x, self.y, **settings)
        if kind == "Hessian":
            return Hessian(self.loss(self.x, self.y), self.params, **settings)
        out = self.net(self.x)
        return GaussNewton(((out - self.y).square() @ self.phi.exp()).mean(), out, self.params, **settings)


@pytest.mark.parametrize("scale", [1.0, 2.0**12])
@pytest.mark.parametrize("kind", ["Hessian", "GaussNewton", "CompiledHessian"])
def test_products_in_float16_do_not_depend_on_the_size_of_the_vector(kind: str, scale: float) -> None:
    world = World()
    exact = world.operator(kind)
    v = exact.gradient().randn_like(torch.Generator().manual_seed(1))
    with torch.autocast(DEVICE.type, torch.float16):
        found = world.operator(kind, loss_scale=scale)
    for size in (1e-12, 1e-6, 1.0, 1e6, 1e12):
        assert close((found @ (size * v)).flat() / size, (exact @ v).flat(), 5e-3)
        (mixed,), (truth,) = found.cross(size * v, [world.phi]), exact.cross(v, [world.phi])
        assert mixed is not None
        assert truth is not None
        assert close(mixed / size, truth, 5e-3)


def test_the_factor_is_a_power_of_two_that_brings_the_entries_to_the_middle() -> None:
    v = Vector([normal(300, dtype=torch.float32), normal(20, 5, dtype=torch.float32, seed=1)])
    for size in (1e-15, 1e-3, 1.0, 1e15):
        factor = centred(size * v)
        assert factor == 2.0 ** round(torch.tensor(factor).log2().item())
        assert 1 / 32 < float((v * (size * factor)).norm()) / 400**0.5 < 1 / 8
    assert centred(v.zeros_like()) == 1.0
    assert centred(v * float("nan")) == 1.0
    assert centred(v * float("inf")) == 1.0


@pytest.mark.parametrize("value", [1e-38, 3e38])
def test_the_factor_and_its_inverse_are_finite(value: float) -> None:
    v = Vector([torch.full((1,), value, dtype=torch.float64)])
    factor = centred(v)
    assert 0.0 < 1.0 / factor < float("inf")
    half = Vector([torch.full((4,), 6e-8, dtype=torch.float16)])
    assert bool((half * centred(half)).flat().isfinite().all())


def test_float32_and_bfloat16_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    import auxilearn.curvature._retained as module

    def never(_: Vector) -> float:
        raise AssertionError

    monkeypatch.setattr(module, "centred", never)
    world = World()
    v = Vector(p.detach() for p in world.params)
    world.operator("Hessian") @ v
    with torch.autocast(DEVICE.type, torch.bfloat16):
        H = world.operator("Hessian")
    H @ v
    assert H.half_precision
