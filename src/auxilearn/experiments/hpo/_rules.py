"""Ways to differentiate the held-out loss by the penalties, all from the same trained weights."""

from collections.abc import Callable

from torch import Tensor

from auxilearn.bilevel import BilevelProblem
from auxilearn.implicit import hypergradient
from auxilearn.solvers import LinearSolver, Neumann
from auxilearn.unrolling import unrolled

Rule = Callable[[BilevelProblem], Tensor]


def implicit(solver: LinearSolver, *, damping: float = 0.0) -> Rule:
    """Make the rule of the implicit function theorem.

    Args:
        solver: Solves for the inverse Hessian's product.
        damping: Added to the Hessian's diagonal.

    Returns:
        From the problem at its trained weights, the hypergradient of its one auxiliary tensor.
    """

    def rule(problem: BilevelProblem) -> Tensor:
        params, aux = problem.params, problem.aux_params
        train_loss, val_loss = problem.train_loss(params, aux), problem.val_loss(params, aux)
        found = hypergradient(
            train_loss,
            val_loss,
            params=params,
            aux_params=aux,
            solver=solver,
            damping=damping,
            on_failure="skip",
        )
        return found.grads[0]

    return rule


def one_step(lr: float) -> Rule:
    """Make the rule that sees one more step of training, as T1-T2 and DARTS do.

    Args:
        lr: The length of the step.

    Returns:
        The rule.

    References:
        Luketina et al., "Scalable gradient-based tuning of continuous regularization hyperparameters", ICML 2016; Liu
        et al., "DARTS: differentiable architecture search", ICLR 2019.
    """

    def rule(problem: BilevelProblem) -> Tensor:
        return unrolled(problem, steps=1, lr=lr).grads[0]

    return rule


def original() -> Rule:
    """Make the rule of the original package: four terms of a Neumann series at 1e-4, without its leading factor.

    Returns:
        The rule.

    References:
        Navon et al., "Auxiliary learning by implicit differentiation", ICLR 2021, and its package's defaults.
    """
    return implicit(Neumann(alpha=1e-4, terms=3, scaled=False))
