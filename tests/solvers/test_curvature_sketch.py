"""A sample of the Gauss-Newton matrix: the whole of it inverts the operator, a part of it saves products."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from auxilearn import Vector, hypergradient
from auxilearn.curvature import GaussNewton, Hessian
from auxilearn.data import mnist_5k
from auxilearn.errors import InputError, SolverWarning
from auxilearn.solvers import ConjugateGradient, CurvatureSketch, Dense, Neumann, SingleLoop
from support import DEVICE, DTYPE, close, generator, matrix_of, normal

DELTA = 1e-2
CLASSES = 3


def loss_of(z: Tensor) -> Tensor:
    rows = z.reshape(-1, z.shape[-1])
    return cross_entropy(rows, torch.arange(len(rows), device=DEVICE) % rows.shape[-1])


class Tied(nn.Module):
    """A transformer that returns each word's logits, its last layer the transpose of its first."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(CLASSES, 4)
        self.block = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.out = nn.Linear(4, CLASSES, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.block(self.words(x)))


class Folded(nn.Module):
    """Places folded into the first axis, one layer called twice, and a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.out = nn.Linear(4, 4), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.inside(self.inside(x.reshape(-1, 4)).tanh()).tanh()
        return self.out(input=inside.reshape(len(x), -1))


class Shifted(nn.Module):
    """Holds a weight of its own around layers that hold theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.shift, self.layers = nn.Parameter(torch.randn(4)), nn.Sequential(nn.Linear(4, 5), nn.Tanh())
        self.out = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layers(x + self.shift))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "perceptron": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES)), lambda: normal(9, 4)),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1, groups=1),
            nn.GroupNorm(1, 2),
            nn.SiLU(),
            nn.Conv2d(2, 2, 3, stride=2, groups=2, bias=False),
            nn.Flatten(),
            nn.Linear(8, CLASSES),
        ),
        lambda: normal(7, 1, 6, 6),
    ),
    "patches": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, (3, 2), padding=(1, 0), stride=(1, 2), dilation=(2, 1)),
            nn.Tanh(),
            nn.Conv2d(3, 2, 3, padding="same", dilation=2, bias=False),
            nn.Tanh(),
            nn.Conv2d(2, 2, 2, padding="valid"),
            nn.Tanh(),
            nn.Conv2d(2, 2, 2, padding="same"),
            nn.Flatten(),
            nn.Linear(18, CLASSES),
        ),
        lambda: normal(7, 2, 6, 8),
    ),
    "transformer": (Tied, lambda: torch.randint(CLASSES, (4, 3), generator=generator(3)).to(DEVICE)),
    "shifted": (Shifted, lambda: normal(6, 4)),
    "folded": (Folded, lambda: normal(6, 2, 4)),
}


def sketched(model: nn.Module, x: Tensor, **settings: float) -> CurvatureSketch:
    sketch = CurvatureSketch(model, **settings)  # type: ignore[arg-type]
    with sketch.watched():
        z = model(x)
    sketch.update(loss_of(z), z)
    return sketch


def made(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model, x = MODELS[name]
    return model().to(DEVICE, DTYPE), x()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", [name for name in MODELS if name != "transformer"])
def test_the_whole_sample_is_the_inverse_of_the_gauss_newton_matrix(name: str) -> None:
    model, x = made(name)
    z = model(x)
    G = GaussNewton(loss_of(z), z, model.parameters(), damping=DELTA)
    S = sketched(model, x, draws=CLASSES, caution=1.0).root(G)
    like = Vector(p.detach() for p in G.params)
    unit = torch.eye(like.flat().numel(), dtype=DTYPE, device=DEVICE)
    P = torch.stack([S.both(like.from_flat(e)).flat() for e in unit])
    assert close(P @ matrix_of(G, like), unit, 1e-8)
    assert not P.requires_grad


def test_rows_that_share_a_sample_are_right_on_average() -> None:
    model, x = made("transformer")
    with sdpa_kernel(SDPBackend.MATH):
        z = model(x)
        G = GaussNewton(loss_of(z), z, model.parameters(), damping=DELTA)
        like = Vector(p.detach() for p in G.params)
        v = like.randn_like(generator(1))
        exact, mean, draws = G @ v - DELTA * v, v.zeros_like(), 300
        for seed in range(draws):
            S = sketched(model, x, draws=CLASSES, caution=1.0, seed=seed).root(G)
            mean.add_(S.inverse_transposed(S.inverse(v)) - DELTA * v, scale=1 / draws)
    assert float((mean - exact).norm() / exact.norm()) < 0.15


def test_rows_that_are_left_out_are_right_on_average() -> None:
    model, x = made("perceptron")
    z = model(x)
    G = GaussNewton(loss_of(z), z, model.parameters(), damping=DELTA)
    v = Vector(normal(*p.shape, seed=4) for p in G.params)
    exact, mean, times = G @ v - DELTA * v, v.zeros_like(), 400
    for seed in range(times):
        S = sketched(model, x, draws=CLASSES, size=8, caution=1.0, seed=seed).root(G)
        mean.add_(S.inverse_transposed(S.inverse(v)) - DELTA * v, scale=1 / times)
    assert float((mean - exact).norm() / exact.norm()) < 0.1


def mnist(rows: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network after some training on real digits, and a batch of them."""
    data = mnist_5k()
    x, y = data.pixels.flatten(1).to(DEVICE, DTYPE), data.classes.to(DEVICE)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(x.shape[1], 32), nn.SiLU(), nn.Linear(32, 10)).to(DEVICE, DTYPE)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for k in range(60):
        batch = slice(64 * k, 64 * (k + 1))
        optimizer.zero_grad()
        cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    return model, x[:rows], y[:rows]


def test_a_few_rows_save_two_thirds_of_the_products_on_real_digits() -> None:
    model, x, y = mnist(1500)
    v = Vector(torch.autograd.grad(cross_entropy(model(x[1000:]), y[1000:]), tuple(model.parameters())))
    x, y = x[:1000], y[:1000]
    z = model(x)
    G = GaussNewton(cross_entropy(z, y), z, model.parameters(), damping=1e-3)
    sketch = CurvatureSketch(model, size=300)
    with sketch.watched():
        z = model(x)
    sketch.update(cross_entropy(z, y), z)
    plain = ConjugateGradient(max_steps=500, tolerance=1e-3).solve(G, v)
    found = ConjugateGradient(max_steps=500, tolerance=1e-3, preconditioner=sketch).solve(G, v)
    assert found.report.status.value == "converged"
    assert 3 * found.report.products < plain.report.products
    assert float((found.x - plain.x).norm() / plain.x.norm()) < 0.02


def test_every_solver_takes_it_and_the_limit_is_the_same() -> None:
    model, x = made("perceptron")
    z = model(x)
    H = GaussNewton(loss_of(z), z, model.parameters(), damping=DELTA)
    v = Vector(normal(*p.shape, seed=4) for p in H.params)
    exact = Dense().solve(H, v).x
    sketch = sketched(model, x[:5], draws=2)
    for solver in (
        ConjugateGradient(max_steps=200, tolerance=1e-13, preconditioner=sketch),
        Neumann(terms=3000, preconditioner=sketch),
        Neumann(terms=3000, alpha=0.2, preconditioner=sketch),
    ):
        solution = solver.solve(H, v)
        assert float((solution.x - exact).norm() / exact.norm()) < 1e-8, solver
    single = SingleLoop(alpha=0.2, preconditioner=sketch)
    for _ in range(2000):
        x_last = single.solve(H, v).x
    assert float((x_last - exact).norm() / exact.norm()) < 1e-8


def test_the_reported_residual_is_that_of_the_system() -> None:
    model, x = made("perceptron")
    z = model(x)
    H = GaussNewton(loss_of(z), z, model.parameters(), damping=DELTA)
    v = Vector(normal(*p.shape, seed=4) for p in H.params)
    sketch = sketched(model, x[:5], draws=2)
    for solver in (
        ConjugateGradient(max_steps=3, preconditioner=sketch),
        Neumann(terms=5, preconditioner=sketch, measure_residual=True),
    ):
        solution = solver.solve(H, v)
        assert solution.report.residual == pytest.approx(float((v - H @ solution.x).norm() / v.norm()), rel=1e-9)


def test_it_serves_a_hypergradient_with_the_damped_hessian() -> None:
    model, x = made("perceptron")
    phi = torch.zeros((), dtype=DTYPE, device=DEVICE, requires_grad=True)
    z = model(x)
    train = phi.exp() * loss_of(z)
    H = Hessian(train, model.parameters(), damping=1.0)
    sketch = sketched(model, x)
    solver = ConjugateGradient(max_steps=100, tolerance=1e-12, preconditioner=sketch)
    found = hypergradient(H, z.square().mean(), params=H.params, aux_params=[phi], solver=solver)
    H = Hessian(phi.exp() * loss_of(model(x)), model.parameters(), damping=1.0)
    exact = hypergradient(H, model(x).square().mean(), params=H.params, aux_params=[phi], solver=Dense())
    assert close(found.grads[0], exact.grads[0], 1e-9)


def test_without_curvature_only_the_damping_is_left() -> None:
    model, x = made("perceptron")
    sketch = CurvatureSketch(model, caution=1.0)
    with sketch.watched():
        z = model(x)
    sketch.update(z.mean(), z)
    G = GaussNewton(loss_of(z), z, model.parameters(), damping=DELTA)
    v = Vector(normal(*p.shape, seed=4) for p in G.params)
    assert close(sketch.root(G).both(v).flat(), v.flat() / DELTA, 1e-12)


def test_layers_that_mix_samples_are_named_and_left_out() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, CLASSES)).to(DEVICE, DTYPE)
    x = normal(9, 4)
    with pytest.warns(SolverWarning, match=r"treat samples apart.*A `BatchNorm1d` does not"):
        sketch = sketched(model, x)
    z = model(x)
    G = GaussNewton(loss_of(z), z, model.parameters(), damping=DELTA)
    v = Vector(normal(*p.shape, seed=4) for p in G.params)
    solution = ConjugateGradient(max_steps=200, tolerance=1e-12, preconditioner=sketch).solve(G, v)
    exact = Dense().solve(G, v).x
    assert float((solution.x - exact).norm() / exact.norm()) < 1e-8


def test_a_network_of_which_no_layer_can_be_sampled_is_refused() -> None:
    model = nn.BatchNorm1d(4).to(DEVICE, DTYPE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolverWarning)
        with pytest.raises(InputError, match="None of this network does"):
            sketched(model, normal(9, 4))


def test_signs_come_from_the_seed_and_the_global_state_stays() -> None:
    model, x = made("perceptron")
    before = torch.get_rng_state()
    z = model(x)
    G = GaussNewton(loss_of(z), z, model.parameters(), damping=DELTA)
    v = Vector(normal(*p.shape, seed=4) for p in G.params)
    one, same, other = (sketched(model, x, draws=1, seed=s).root(G).both(v).flat() for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_a_cached_root_follows_update_and_damping() -> None:
    model, x = made("perceptron")
    sketch = sketched(model, x)
    z = model(x)
    G = GaussNewton(loss_of(z), z, model.parameters(), damping=DELTA)
    stronger = GaussNewton(loss_of(z), z, model.parameters(), damping=2 * DELTA)
    first = sketch.root(G)
    assert sketch.root(G) is first
    assert sketch.root(stronger) is not first
    with sketch.watched():
        z = model(x)
    sketch.update(loss_of(z), z)
    assert sketch.root(G) is not first


def test_a_pass_in_autocast_gives_nearly_the_same_sample() -> None:
    model, x = made("convolutions")
    model, x = model.float(), x.float()
    sketch = CurvatureSketch(model, draws=CLASSES)
    with torch.autocast(x.device.type, dtype=torch.bfloat16), sketch.watched():
        z = model(x)
    assert z.dtype == torch.bfloat16
    sketch.update(loss_of(z.float()), z)
    z = model(x)
    G = GaussNewton(loss_of(z), z, model.parameters(), damping=DELTA)
    v = Vector(normal(*p.shape, seed=4).float() for p in G.params)
    exact = sketched(model, x, draws=CLASSES).root(G).both(v)
    found = sketch.root(G).both(v)
    assert all(t.dtype == torch.float32 for t in found)
    assert float((found - exact).norm() / exact.norm()) < 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "`size`"),
        ({"draws": 0}, "`draws`"),
        ({"damping": -1.0}, "`damping`"),
        ({"caution": 0.5}, "`caution`"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CurvatureSketch(nn.Linear(2, 2), **settings)  # type: ignore[arg-type]


def test_bad_input_is_refused_and_changes_nothing() -> None:
    model, x = made("perceptron")
    with pytest.raises(InputError, match=r"must be an `nn.Module`"):
        CurvatureSketch(model.parameters())  # type: ignore[arg-type]
    sketch = CurvatureSketch(model)
    z = model(x)
    G = GaussNewton(loss_of(z), z, model.parameters(), damping=DELTA)
    with pytest.raises(InputError, match="must be taken before it is used"):
        sketch.root(G)
    with pytest.raises(InputError, match="needs a watched forward pass"):
        sketch.update(loss_of(z), z)
    sketch = sketched(model, x)
    root = sketch.root(G)
    with sketch.watched():
        z = model(x)
    with pytest.raises(InputError, match="samples along its first axis"):
        sketch.update(loss_of(z), loss_of(z))
    with pytest.raises(InputError, match="must be finite"):
        sketch.update(loss_of(z) * torch.inf, z)
    assert sketch.root(G) is root
    bare = GaussNewton(loss_of(z), z, model.parameters())
    with pytest.raises(InputError, match="needs damping"):
        sketch.root(bare)
    part = GaussNewton(loss_of(z), z, list(model.parameters())[:2], damping=DELTA)
    with pytest.raises(InputError, match="2 of 4 tensors"):
        sketch.root(part)
