"""Several copies of one combiner as a stack of parameters, and their outer step."""

from copy import deepcopy
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim import LBFGS, Optimizer, SparseAdam

from auxilearn._checks import explain
from auxilearn.combiners import DeepLinear, Linear, LossCombiner, Standardized
from auxilearn.errors import InputError
from auxilearn.implicit import hypergradient
from auxilearn.solvers import SolveReport
from auxilearn.training._learned import Learned


@final
class Upper:
    """The outer level: a row of combiner parameters for each model, one more for the average, and their optimizer.

    Where several models share what they learn, row f learns from the outer losses of all models but f. So no label is
    an outer target of the combiner whose model it judges; without this the gate would be partial to what it judges.
    (The label still trains the other models, and moves their rows: only a nested cross-validation would cut that, at K
    times the cost.) One row more sees all. Otherwise each model has a row of its own, and learns it from its own outer
    loss.

    Args:
        learned: The settings.
        losses: How many auxiliary losses there are.
        models: How many models are combined.
        device: Where the losses lie.
        shared: Whether the models share what they learn.

    Raises:
        InputError: If the settings build no combiner of so many losses, or no optimizer.
    """

    def __init__(
        self, learned: Learned, losses: int, models: int, device: torch.device, *, shared: bool = False
    ) -> None:
        self._skeleton = _checked_combiner(learned.combiner(losses), losses).to(device)
        self._learned, self.models = learned, models
        self._solver = deepcopy(learned.solver)  # it may remember its last solution, which is of this run alone
        self._shared = shared
        rows = models + 1 if shared else models
        self._names = [name for name, _ in self._skeleton.named_parameters()]
        self.phi = [
            nn.Parameter(p.detach().expand(rows, *p.shape).clone()) for p in self._skeleton.parameters()
        ]  # each (rows, ...)
        self.optimizer = _checked_optimizer(learned.optimizer(self.phi))
        self.averages = [torch.zeros_like(p[-1]) for p in self.phi]
        self.averaged = 0
        self.steps, self.skipped = 0, 0
        self._at_once = models > 1 and self._vectorises(losses)

    def _vectorises(self, losses: int) -> bool:
        # Somebody's own combiner may do what vmap refuses, in words of its own.
        ones = torch.ones(self.models, 2, losses, device=self.phi[0].device)
        try:
            vmap(self._one)([p[: self.models] for p in self.phi], ones if self.reads_samples else ones[:, 0])
        except Exception:
            return False
        return True

    @property
    def reads_samples(self) -> bool:
        """Whether the combiner looks at each sample's losses, not only at their means."""
        return not isinstance(self._skeleton, (Linear, DeepLinear))

    def combine(self, losses: Tensor) -> Tensor:
        """Combine the losses of each model with its own row.

        Args:
            losses: In units of their initial values: (M, K), or (M, B, K) if the combiner reads samples.

        Returns:
            Shape (M,).
        """
        if not self._at_once:
            return torch.stack([self._one([p[m] for p in self.phi], losses[m]) for m in range(self.models)])
        return vmap(self._one)([p[: self.models] for p in self.phi], losses)

    def weights(self, losses: Tensor) -> Tensor:
        """Say how much each loss counts at present: the derivative of the combined loss, by the last row.

        Args:
            losses: Those of one model: (K,), or (B, K) if the combiner reads samples.

        Returns:
            Shape (K,), without a graph.
        """
        with torch.enable_grad():
            leaf = losses.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self._one([p[-1].detach() for p in self.phi], leaf), leaf)
        return slope.reshape(-1, slope.shape[-1]).sum(0)

    def _one(self, phi: list[Tensor], losses: Tensor) -> Tensor:
        state = {**dict(self._skeleton.named_buffers()), **dict(zip(self._names, phi, strict=True))}
        return functional_call(self._skeleton, state, (losses,))

    def step(
        self, train: Tensor, outer: Tensor, params: tuple[nn.Parameter, ...], factors: Tensor
    ) -> tuple[SolveReport, Tensor]:
        """Move every row against its hypergradient; where the linear solve fails, none moves, and the step is counted.

        Args:
            train: The sum of the models' train losses, a scalar with its graph: the models share no weights, so its
                Hessian is block-diagonal and one call serves all of them.
            outer: The sum of their outer losses.
            params: The weights of all models.
            factors: Ones by which each model's auxiliary losses were multiplied before they were combined, (M, K).

        Returns:
            The solver's report, and the usefulness of each loss to each model, minus the hypergradient with respect to
            ``factors``, (M, K).
        """
        result = hypergradient(
            train, outer, params=params, aux_params=[*self.phi, factors], solver=self._solver, on_failure="skip"
        )
        *grads, slope = result.grads
        self.steps += 1
        self.skipped += not result.usable
        if result.usable:
            own = [g[: self.models] for g in grads]
            for p, g in zip(self.phi, _mixed(own) if self._shared else own, strict=True):
                p.grad = g
            self.optimizer.step()
            self.optimizer.zero_grad()
        return result.report, -slope if result.usable else torch.zeros_like(slope)

    @property
    def settings(self) -> list[object]:
        """What the state fits to: settings of the optimizer, and shapes."""
        return [self.optimizer.state_dict()["param_groups"], [tuple(p.shape) for p in self.phi]]

    def trouble(self) -> str | None:
        """Say so if outer steps were skipped.

        Returns:
            A line, or None.
        """
        if not self.skipped:
            return None
        return (
            f"{self.skipped} of {self.steps} outer steps were skipped, for the linear solve failed. Use the solver "
            '`Neumann(alpha="auto")` or `Identity()`, or a smaller learning rate of the weights.'
        )

    @torch.no_grad()
    def average(self) -> None:
        """Let the present parameters of the last row enter the time average."""
        self.averaged += 1
        for mean, p in zip(self.averages, self.phi, strict=True):
            mean.add_((p[-1] - mean) / self.averaged)

    def combiner(self) -> LossCombiner:
        """Return the combiner with the time average of the parameters, or with the present ones if there is none.

        Returns:
            A combiner with frozen parameters.
        """
        found = self._learned.combiner(self._skeleton.num_losses).to(self.phi[0].device)
        source = self.averages if self.averaged else [p[-1].detach() for p in self.phi]
        values = dict(zip(self._names, source, strict=True))
        found.load_state_dict({**self._skeleton.state_dict(), **values})
        return found.requires_grad_(False)

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on exactly.

        Returns:
            The state.
        """
        return {
            "phi": [p.detach().clone() for p in self.phi],
            "skeleton": self._skeleton.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averages": [a.clone() for a in self.averages],
            "averaged": self.averaged,
            "steps": [self.steps, self.skipped],
            "solver": self._solver.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: What :meth:`state_dict` returned.
        """
        for p, value in zip(self.phi, state["phi"], strict=True):
            p.copy_(value)
        self._skeleton.load_state_dict(state["skeleton"])
        self.optimizer.load_state_dict(state["optimizer"])
        for a, value in zip(self.averages, state["averages"], strict=True):
            a.copy_(value)
        self.averaged = int(state["averaged"])
        self.steps, self.skipped = state["steps"]
        self._solver.load_state_dict(state["solver"])


def _mixed(own: list[Tensor]) -> list[Tensor]:
    # Each model's hypergradient is scaled to the median norm, so that none drowns the others; row f is then the mean
    # over the other models, the last row that over all. The median of row f leaves model f out, too.
    norm = torch.stack([g.reshape(len(g), -1).square().sum(1) for g in own]).sum(0).sqrt()  # (M,)
    count = len(norm)
    # A model without held-back labels in the batch has none to give, and no say in the median.
    inverse = torch.where(norm > 0, 1 / norm, 0.0)
    rows = [[m for m in range(count) if m != f] for f in range(count)] + [list(range(count))]
    medians = torch.stack([_median(norm[row]) for row in rows])  # (M + 1,)
    mixed: list[Tensor] = []
    for g in own:
        unit = g * inverse.view(-1, *(1,) * (g.dim() - 1))
        means = torch.stack([unit[row].mean(0) for row in rows])
        mixed.append(means * medians.view(-1, *(1,) * (g.dim() - 1)))
    return mixed


def _median(norms: Tensor) -> Tensor:
    given = norms[norms > 0]
    return given.median() if len(given) else norms.new_zeros(())


def _checked_combiner(found: object, losses: int) -> LossCombiner:
    rule = "`combiner` must build a `LossCombiner` of the auxiliary losses, of means or samples, with parameters."
    if not isinstance(found, LossCombiner):
        raise InputError(explain(rule, f"It built a `{type(found).__name__}`.", "E.g. pass `Linear` or `MLP` itself."))
    if isinstance(found, Standardized):
        cure = "Pass what it wraps: the losses are divided by their initial values already."
        raise InputError(explain(rule, "It built a `Standardized`, whose scale changes from call to call.", cure))
    if found.num_losses != losses:
        cure = "Use the number that the function is given: `lambda k: MLP(k, hidden=(4,))`."
        raise InputError(explain(rule, f"It is for {found.num_losses} losses, and there are {losses}.", cure))
    if not {1, 2} & set(found.ndims):
        cure = "Average each sample's loss over its pixels, and use `Linear`; or write the loop with `MetaOptimizer`."
        raise InputError(explain(rule, f"`{type(found).__name__}` reads images of losses only.", cure))
    if not list(found.parameters()):
        raise InputError(explain(rule, f"`{type(found).__name__}` has none.", "There would be nothing to learn."))
    return found


def _checked_optimizer(found: object) -> Optimizer:
    rule = "`optimizer` must build a torch optimizer that steps without a closure."
    if not isinstance(found, Optimizer) or isinstance(found, (LBFGS, SparseAdam)):
        raise InputError(explain(rule, f"It built a `{type(found).__name__}`.", "E.g. `Adam(phi, lr=0.05)`."))
    return found
