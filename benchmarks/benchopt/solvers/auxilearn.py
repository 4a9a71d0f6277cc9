"""auxilearn as a solver of benchopt's benchmark of bilevel optimisation.

Copy this file to ``solvers/`` of a clone of https://github.com/benchopt/benchmark_bilevel, install this package and
torch beside jax, and run ``benchopt run . -d simulated -s SOBA -s auxilearn``. The benchmark's functions are jax; the
solvers of auxilearn know a Hessian only by its products, so that theirs are the benchmark's own, compiled by jax.
"""

from benchopt import BaseSolver, safe_import_context
from benchopt.stopping_criterion import SufficientProgressCriterion

with safe_import_context() as import_ctx:
    import jax
    import numpy as np
    import torch

    from auxilearn import Vector
    from auxilearn.curvature import CurvatureOperator
    from auxilearn.solvers import ConjugateGradient, Neumann, SingleLoop


class Products(CurvatureOperator):
    """The Hessian of the inner function on one batch, by a function of leaves compiled by jax."""

    def __init__(self, product):
        super().__init__()
        self._product = product

    def _multiply(self, v, /):
        return from_jax(self._product(to_jax(v)))


def from_jax(leaves):
    """Return arrays of jax as a vector, without a copy."""
    # Whoever receives a buffer may overwrite what it was computed from, so the computation has to be over.
    return Vector(torch.from_dlpack(leaf) for leaf in jax.block_until_ready(leaves))


def to_jax(v):
    """Return a vector as arrays of jax, copied, for some solvers change their own vectors in place."""
    return [jax.numpy.array(t.numpy()) for t in v]


class Batches:
    """Starts of batches of neighbouring samples, in an order drawn anew each epoch."""

    def __init__(self, n_samples, batch_size, rng):
        self.starts, self.rng, self.left = np.arange(n_samples // batch_size) * batch_size, rng, []

    def draw(self):
        """Return the next start."""
        if not self.left:
            self.left = self.rng.permutation(self.starts).tolist()
        return self.left.pop()


class Solver(BaseSolver):
    """Implicit differentiation by auxilearn.

    ``single-loop`` takes one step of the inner variable, one product with the Hessian and one step of the outer
    variable on every batch, with steps that fall like those of SOBA; the step of the linear system is estimated.
    ``neumann`` and ``cg`` take ``n_inner_steps`` steps of the inner variable and then solve the system of one batch;
    all batches of the inner function are eight times as large for ``cg``.
    """

    name = "auxilearn"

    stopping_criterion = SufficientProgressCriterion(patience=12_800, strategy="callback")

    parameters = {  # noqa: RUF012 - read from the class by benchopt
        "method": ["single-loop"],
        "step_size": [0.1],
        "outer_ratio": [1.0],
        "batch_size": [64],
        "n_inner_steps": [10],
        "eval_freq": [128],
        "random_state": [1],
    }

    requirements = ["pip:jax", "pip:jaxlib", "pip:torch", "pip:auxilearn"]  # noqa: RUF012 - as above

    @staticmethod
    def get_next(stop_val):
        """Evaluate after every ``eval_freq`` steps."""
        return stop_val + 1

    def set_objective(
        self,
        f_inner,
        f_outer,
        n_inner_samples,
        n_outer_samples,
        inner_var0,
        outer_var0,
        f_inner_fb=None,
        f_outer_fb=None,
    ):
        """Compile the derivatives of one batch; a variable may be an array or a tree of them."""
        self.inner_var0, self.outer_var0 = inner_var0, outer_var0
        self.n_inner_samples, self.n_outer_samples = n_inner_samples, n_outer_samples
        self.sizes = [
            min(self.batch_size * (8 if self.method == "cg" else 1), n_inner_samples),
            min(self.batch_size, n_outer_samples),
        ]
        tree = jax.tree_util.tree_structure(inner_var0)
        flat, unflat = jax.tree_util.tree_leaves, lambda leaves: jax.tree_util.tree_unflatten(tree, leaves)
        inner, outer = self.sizes
        slope = jax.grad(lambda w, p, start: f_inner(w, p, start=start, batch_size=inner), argnums=0)

        def both(w, p, start, leaves):
            products = jax.vjp(lambda a, b: slope(a, b, start), w, p)[1]
            return products(unflat(leaves))

        self.slope = jax.jit(slope)
        self.outer = jax.jit(jax.grad(lambda w, p, start: f_outer(w, p, start=start, batch_size=outer), argnums=(0, 1)))
        self.product = jax.jit(lambda w, p, start, leaves: flat(both(w, p, start, leaves)[0]))
        self.cross = jax.jit(lambda w, p, start, leaves: both(w, p, start, leaves)[1])
        self.step = jax.jit(lambda a, b, rate: jax.tree_util.tree_map(lambda x, y: x - rate * y, a, b))
        self.minus = jax.jit(lambda a, b: jax.tree_util.tree_map(lambda x, y: x - y, a, b))

    def warm_up(self):
        """Let jax compile before the clock starts."""
        self.run_once(2)

    def run(self, callback):
        """Take ``eval_freq`` outer steps between two looks of the benchmark."""
        w, p = self.inner_var0, self.outer_var0
        self.inner_var, self.outer_var = w, p
        solver = {
            "single-loop": SingleLoop(),
            "neumann": Neumann(terms=10),
            "cg": ConjugateGradient(max_steps=5),
        }[self.method]
        rng, t = np.random.RandomState(self.random_state), 0
        inner = Batches(self.n_inner_samples, self.sizes[0], rng)
        outer = Batches(self.n_outer_samples, self.sizes[1], rng)
        while callback():
            for _ in range(self.eval_freq):
                t += 1
                rate = self.step_size / t**0.5 if self.method == "single-loop" else self.step_size
                if self.method != "single-loop":
                    for _ in range(self.n_inner_steps):
                        w = self.step(w, self.slope(w, p, inner.draw()), rate)
                start = inner.draw()
                by_w, by_p = self.outer(w, p, outer.draw())
                here = w, p, start
                H = Products(lambda leaves, here=here: self.product(*here, leaves))
                x = solver.solve(H, from_jax(jax.tree_util.tree_leaves(by_w))).x
                direction = self.minus(by_p, self.cross(*here, to_jax(x)))
                if self.method == "single-loop":
                    w = self.step(w, self.slope(*here), rate)
                p = self.step(p, direction, rate / self.outer_ratio)
            self.inner_var, self.outer_var = w, p

    def get_result(self):
        """Return both variables."""
        return {"inner_var": self.inner_var, "outer_var": self.outer_var}
