"""One outer step on a convolutional network: ours, the original package's arithmetic, and other people's packages.

Every function takes a :class:`Setting` and returns the step; what is done once for all steps, such as compiling, is
done before. All use three terms or steps, but for ``default``, whose power iteration takes one product more.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from auxilearn import hypergradient
from auxilearn.curvature import CompiledHessian, FiniteDifference, Hessian, LossCurvature, Streamed
from auxilearn.solvers import ConjugateGradient, LinearSolver, Neumann

BATCH, PARTS, TERMS, ALPHA = 256, 4, 3, 1e-3
Step = Callable[[], object]


class Checkpointed(nn.Sequential):
    """Layers whose activations are computed again in the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers."""
        return checkpoint(super().forward, x, use_reentrant=False)


class Setting:
    """A network of 71,000 weights on 256 images, two losses, and a weight φ for each."""

    def __init__(self, *, checkpointed: bool = False) -> None:
        torch.manual_seed(0)
        block = Checkpointed if checkpointed else nn.Sequential
        self.net = nn.Sequential(
            block(nn.Conv2d(1, 16, 5), nn.SiLU()),
            block(nn.Conv2d(16, 16, 5), nn.SiLU(), nn.Flatten()),
            nn.Linear(16 * 400, 10),
        )
        self.params = tuple(self.net.parameters())
        self.phi = nn.Parameter(torch.zeros(2))
        self.x, self.y = torch.randn(BATCH, 1, 28, 28), torch.randint(10, (BATCH,))

    def train(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the weighted losses."""
        return self.combined(self.net(x), y, self.phi)

    @staticmethod
    def combined(logits: Tensor, y: Tensor, phi: Tensor) -> Tensor:
        """Weight the losses of some outputs."""
        return torch.stack([cross_entropy(logits, y), logits.square().mean()]) @ phi.exp()

    def outer(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the main loss."""
        return cross_entropy(self.net(x), y)

    def parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Cut the batch into micro-batches."""
        return zip(self.x.chunk(PARTS), self.y.chunk(PARTS), strict=True)

    def functional(self) -> tuple[tuple[Tensor, ...], Callable[..., Tensor], Callable[..., Tensor]]:
        """Return the weights, and the two losses as functions of (W, φ)."""
        names = [name for name, _ in self.net.named_parameters()]

        def logits(weights: tuple[Tensor, ...]) -> Tensor:
            return torch.func.functional_call(self.net, dict(zip(names, weights, strict=True)), (self.x,))

        return (
            tuple(p.detach() for p in self.params),
            lambda W, phi: self.combined(logits(W), self.y, phi),
            lambda W, phi: cross_entropy(logits(W), self.y) + 0 * phi.sum(),
        )


def plain_gradient(s: Setting) -> Step:
    """Take the gradient of the train loss, and no more: the floor."""
    return lambda: torch.autograd.grad(s.train(s.x, s.y), s.params)


def ours(solver: LinearSolver) -> Callable[[Setting], Step]:
    """Take the hypergradient from the graphs of both losses."""

    def make(s: Setting) -> Step:
        def step() -> object:
            losses = s.train(s.x, s.y), s.outer(s.x, s.y)
            return hypergradient(*losses, params=s.params, aux_params=[s.phi], solver=solver)

        return step

    return make


def outer_loss_later(s: Setting) -> Step:
    """Pass the outer loss as a generator, whose graph is freed before the first product."""

    def step() -> object:
        outer = (s.outer(s.x, s.y) for _ in range(1))
        return hypergradient(
            s.train(s.x, s.y), outer, params=s.params, aux_params=[s.phi], solver=Neumann(TERMS, ALPHA)
        )

    return step


def operator(make: Callable[[Setting], Callable[[], LossCurvature]], parts: int = 1) -> Callable[[Setting], Step]:
    """Take the hypergradient with another operator, and the outer loss from a generator."""

    def build(s: Setting) -> Step:
        curvature = make(s)

        def step() -> object:
            outer = (s.outer(*part) for part in (s.parts() if parts > 1 else [(s.x, s.y)]))
            return hypergradient(curvature(), outer, params=(), aux_params=[s.phi], solver=Neumann(TERMS, ALPHA))

        return step

    return build


def streamed(s: Setting) -> Callable[[], LossCurvature]:
    """Rebuild the Hessian of each micro-batch for each product."""
    return lambda: Streamed(lambda part: Hessian(s.train(*part), s.params), s.parts())


def differences(s: Setting) -> Callable[[], LossCurvature]:
    """Take differences of gradients."""
    return lambda: FiniteDifference(lambda: s.train(s.x, s.y), s.params)


def compiled(s: Setting) -> Callable[[], LossCurvature]:
    """Compile gradient and products."""
    factory = CompiledHessian(s.train, [s.net])
    H = factory(s.x, s.y)
    H.cross(H.gradient(), [s.phi])
    return lambda: factory(s.x, s.y)


def original(s: Setting) -> Step:
    """Repeat the arithmetic of auxilearn 1.0.0."""
    grad = torch.autograd.grad

    def step() -> object:
        train, outer = s.train(s.x, s.y), s.outer(s.x, s.y)
        p = v = grad(outer, s.params, retain_graph=True)
        g = grad(train, s.params, create_graph=True)
        for _ in range(TERMS):
            h = [a * ALPHA for a in grad(g, s.params, v, retain_graph=True)]
            v = [a - b for a, b in zip(v, h, strict=True)]
            p = [a + b for a, b in zip(p, v, strict=True)]
        return grad(g, s.phi, p, retain_graph=True)

    return step


def hypergrad(s: Setting) -> Step:
    """Let the package hypergrad sum the series."""
    from hypergrad.approx_hypergrad import neumann

    W, train, outer = s.functional()
    losses = (lambda W, phi: train(W, phi[0])), (lambda W, phi: outer(W, phi[0]))
    return lambda: neumann(*losses, W, (s.phi.detach(),), TERMS, ALPHA)


def torchopt(s: Setting) -> Step:
    """Let torchopt differentiate the optimality condition, by its Neumann series."""
    from torchopt.diff.implicit import custom_root
    from torchopt.linear_solve import solve_inv

    W, train, outer = s.functional()
    condition = torch.func.grad(train)
    root = custom_root(condition, argnums=1, solve=solve_inv(ns=True, maxiter=TERMS, alpha=ALPHA))(lambda W, phi: W)

    def step() -> object:
        start = tuple(p.clone().requires_grad_() for p in W)
        return torch.autograd.grad(outer(root(start, s.phi), s.phi.detach()), s.phi)

    return step


def betty(s: Setting) -> Step:
    """Let betty's function sum the series on the graph of the gradient; its engine would add a training step."""
    from betty.hypergradient.neumann import approx_inverse_hvp

    def step() -> object:
        outer = torch.autograd.grad(s.outer(s.x, s.y), s.params)
        g = torch.autograd.grad(s.train(s.x, s.y), s.params, create_graph=True)
        x = approx_inverse_hvp(outer, g, s.params, iterations=TERMS, alpha=ALPHA)
        return torch.autograd.grad(g, s.phi, x)

    return step


def higher(s: Setting) -> Step:
    """Let the package higher unroll three steps of gradient descent."""
    import higher as package

    def step() -> object:
        optimizer = torch.optim.SGD(s.params, lr=ALPHA)
        with package.innerloop_ctx(s.net, optimizer) as (net, unrolled):
            for _ in range(TERMS):
                unrolled.step(s.combined(net(s.x), s.y, s.phi))
            return torch.autograd.grad(cross_entropy(net(s.x), s.y), s.phi)

    return step


METHODS: dict[str, Callable[[Setting], Step]] = {
    "one plain gradient": plain_gradient,
    "ours, default": ours(Neumann()),
    "ours, fixed α": ours(Neumann(TERMS, ALPHA)),
    "ours, conjugate gradients": ours(ConjugateGradient(max_steps=TERMS)),
    "ours, activations checkpointed": ours(Neumann(TERMS, ALPHA)),
    "ours, outer loss as a generator": outer_loss_later,
    f"ours, streamed in {PARTS} parts": operator(streamed, PARTS),
    "ours, finite differences": operator(differences),
    "ours, compiled": operator(compiled),
    "auxilearn 1.0.0's arithmetic": original,
    "betty-ml, its Neumann function": betty,
    "hypergrad, neumann": hypergrad,
    "torchopt, custom_root": torchopt,
    "higher, 3 steps unrolled": higher,
}
PACKAGES = {"betty-ml": "betty", "hypergrad": "hypergrad", "torchopt": "torchopt", "higher": "higher"}
