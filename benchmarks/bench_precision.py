"""What mixed precision costs: the relative error of each solver's hypergradient to the same solver's in float64.

A network of 2,400 weights on 500 digits of scikit-learn, trained in float64 on its class and four attributes until the
gradient is small; φ holds the logarithms of the five weights. The forward passes then run in float32, or in autocast to
bfloat16 or float16, with float32 weights; scaled means a loss scale at both levels, halved from 2¹⁶ until nothing
overflows, as `GradScaler` would. Nyström's method is left out, for its random basis is another one in each data type.
"""

import copy
import warnings

import script
import torch
from benchmark import Ratio, Table
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from auxilearn import hypergradient
from auxilearn.data import sklearn_digits
from auxilearn.errors import SolverWarning
from auxilearn.solvers import ConjugateGradient, Identity, LinearSolver, Neumann

SOLVERS: dict[str, LinearSolver] = {
    "Identity": Identity(),
    "Neumann(3), the default": Neumann(),
    "Neumann(20)": Neumann(terms=20),
    "ConjugateGradient(5)": ConjugateGradient(max_steps=5),
    "ConjugateGradient(20)": ConjugateGradient(max_steps=20),
}
PRECISIONS: dict[str, tuple[torch.dtype, float]] = {
    "float32": (torch.float32, 1.0),
    "bf16": (torch.bfloat16, 1.0),
    "bf16, scaled": (torch.bfloat16, 2.0**16),
    "fp16": (torch.float16, 1.0),
    "fp16, scaled": (torch.float16, 2.0**16),
}
DAMPING = 0.01
READING = """The network is close to its minimum, where the gradients of the losses cancel: what bfloat16 rounds away is
large beside what is left, most of all where no curvature is used. A loss scale is no cure for that; it guards against
underflow. Many steps of conjugate gradients have lost orthogonality in float32 already. Compute the losses of the outer
step in float32 if the number matters."""


class World:
    """The network, its data and the weights of its losses, in one data type."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        digits = sklearn_digits(side=8)
        x, y = digits.pixels.flatten(1).double(), digits.classes
        order = torch.randperm(len(x))
        self.train, self.outer = order[:500], order[500:700]
        self.x, self.y = x, y
        self.attributes = torch.stack([(y >> bit) % 2 for bit in range(4)], 1).double()
        self.net = nn.Sequential(nn.Linear(x.shape[1], 32), nn.Tanh(), nn.Linear(32, 14)).double()
        self.phi = torch.zeros(5, dtype=torch.float64, requires_grad=True)

    def to(self, dtype: torch.dtype) -> "World":
        """Return a copy in another data type."""
        found = copy.deepcopy(self)
        found.net, found.x, found.attributes = found.net.to(dtype), found.x.to(dtype), found.attributes.to(dtype)
        found.phi = self.phi.detach().to(dtype).requires_grad_()
        return found

    def losses(self) -> tuple[Tensor, Tensor]:
        """Return the train loss and the outer loss."""
        out, rows = self.net(self.x[self.train]), self.train
        main = cross_entropy(out[:, :10], self.y[rows])[None]
        others = binary_cross_entropy_with_logits(out[:, 10:], self.attributes[rows], reduction="none").mean(0)
        decay = sum((p.square().sum() for p in self.net.parameters()), torch.zeros(()))
        train = torch.cat([main, others]) @ self.phi.exp() + 1e-3 * decay
        return train, cross_entropy(self.net(self.x[self.outer])[:, :10], self.y[self.outer])

    def solved(self, solver: LinearSolver, scale: float = 1.0) -> Tensor:
        """Return the hypergradient from the losses' graphs, with the largest scale that does not overflow."""
        train, outer = self.losses()
        while True:
            found = hypergradient(
                train,
                outer,
                params=self.net.parameters(),
                aux_params=[self.phi],
                solver=copy.deepcopy(solver),
                damping=DAMPING,
                loss_scale=scale,
            )
            if found.finite or scale == 1.0:
                return found.grads[0].double()
            scale /= 2


def trained() -> World:
    """Train until the gradient is small."""
    world = World()
    optimizer = torch.optim.LBFGS(world.net.parameters(), max_iter=400, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = world.losses()[0]
        loss.backward()
        return loss

    optimizer.step(closure)
    return world


def measure(quick: bool, device: str) -> list[Table]:
    """Return a row for each solver; a quick run has the same ones, for it takes seconds."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", SolverWarning)  # conjugate gradients in half precision: the table shows why
    world = trained()
    low = world.to(torch.float32)
    errors: dict[str, list[float]] = {}
    for label, solver in SOLVERS.items():
        exact = world.solved(solver)
        errors[label] = []
        for dtype, scale in PRECISIONS.values():
            with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
                found = low.solved(solver, scale)
            errors[label].append(float((found - exact).norm() / exact.norm()))
    floor = "the same solver in float64"
    columns = {"solver": "", **dict.fromkeys(PRECISIONS, ".1e")}
    ratios = [
        Ratio(f"relative error of the default in {name}", error, floor)
        for name, error in zip(PRECISIONS, errors["Neumann(3), the default"], strict=True)
        if "scaled" not in name
    ]
    rows = tuple((label, *row) for label, row in errors.items())
    return [Table("Relative error of the hypergradient", floor, columns, rows, ratios=tuple(ratios))]


if __name__ == "__main__":
    script.run("precision", measure, script.parser(__doc__).parse_args())
