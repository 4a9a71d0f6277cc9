"""A preconditioner that holds a sample of the Gauss-Newton matrix and inverts it exactly."""

from contextlib import AbstractContextManager
from typing import cast, final

import torch
from torch import Tensor, nn

from auxilearn import _checks
from auxilearn._autograd import filled, gradients
from auxilearn._checks import explain
from auxilearn._vectors import is_distributed, shared_by_ranks
from auxilearn.curvature import LossCurvature
from auxilearn.errors import InputError
from auxilearn.solvers._importance import sampled
from auxilearn.solvers._jacobian_rows import JacobianRows
from auxilearn.solvers._layer_rows import Picked, layer_rows
from auxilearn.solvers._output_root import random_cotangents
from auxilearn.solvers._preconditioner import Root
from auxilearn.solvers._watch import Watch
from auxilearn.solvers._woodbury import Woodbury, gram


@final
class CurvatureSketch:
    r"""A preconditioner from a sample: some rows of the Gauss-Newton matrix's root, inverted by Woodbury's identity.

    .. math:: P^{-1} = \hat J^\top \hat J + c\,\delta I, \qquad
        \hat J_i = \frac{1}{\sqrt{\pi_i}}
        \bigl((\partial_{z}^2 L_T)^{1/2} \varepsilon_{i}\bigr)^\top \partial_W z_{n_i}

    For each sample :math:`n` of a watched pass and each of ``draws`` random signs :math:`\varepsilon` there is a row.
    ``size`` of them are kept, with probabilities :math:`\pi` in proportion to the square of what is pulled back: where
    most samples are classified with confidence, all the curvature is in a few others. On average
    :math:`\hat J^\top\hat J` is the Gauss-Newton matrix; with as many draws as classes and no row left out it is.

    It changes how fast a solver converges, never what to. Conjugate gradients need a third to a seventh of the products
    with a few hundred rows, and as many as without it, or more, with a few dozen; see "How to choose" in the
    documentation. Watch the whole batch of the train loss: a part of it may lack the samples that matter.

    An update costs ``draws`` backward passes, a Gram matrix and a Cholesky factor of ``size`` rows; an application what
    two forward and two backward passes on ``size`` samples cost. Rows of linear layers that see one vector a sample are
    kept as two factors; those of other layers are written out, which takes ``size`` copies of their weights. It may be
    some steps old.

    Args:
        model: The network.
        size: How many rows are kept.
        draws: How many random cotangents a sample gets.
        damping: :math:`\delta` besides the operator's own: what the train loss has of weight decay.
        caution: :math:`c`. A sample overrates the directions that it holds, and underrates the others; larger values
            trust it less. 1 if the sample is the whole.
        seed: The seed of what is random; the global random state is not touched.

    Raises:
        InputError: If an argument breaks a rule.

    Example:
        >>> from auxilearn.curvature import GaussNewton
        >>> from auxilearn.solvers import ConjugateGradient
        >>> model, x = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double(), torch.randn(50, 3).double()
        >>> sketch = CurvatureSketch(model, draws=2, caution=1.0)
        >>> with sketch.watched():
        ...     z = model(x)
        >>> loss = z.square().sum(1).mean()
        >>> sketch.update(loss, z)
        >>> G = GaussNewton(loss, z, model.parameters(), damping=1e-3)
        >>> solver = ConjugateGradient(preconditioner=sketch)
        >>> solver.solve(G, G.gradient()).report.products  # the sample is the whole
        1

    References:
        Woodbury 1950, for the inverse; Martens and Grosse, ICML 2015, Botev et al., ICML 2017, for pulling back random
        roots of the outputs' curvature; Xu et al., "Newton-type methods for non-convex optimization under inexact
        Hessian information", Math. Program. 2020, for sampling it by importance.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        size: int = 512,
        draws: int = 2,
        damping: float = 0.0,
        caution: float = 4.0,
        seed: int = 0,
    ) -> None:
        if not isinstance(cast("object", model), nn.Module):
            rule, cure = "`model` must be an `nn.Module`.", "Pass the network whose weights are trained."
            raise InputError(explain(rule, f"It is a `{type(model).__name__}`.", cure))
        _checks.count("size", size, 1)
        _checks.count("draws", draws, 1)
        _checks.at_least("damping", damping, 0.0)
        _checks.at_least("caution", caution, 1.0)
        self.size, self.draws, self.damping, self.caution = size, draws, damping, caution
        self._watch = Watch(model)
        self._generator = torch.Generator().manual_seed(seed)
        self._places: dict[int, int] = {}
        self._rows: list[JacobianRows] = []
        self._gram = torch.zeros(0, 0)
        self._cached: tuple[tuple[float, tuple[int, ...]], Root] | None = None

    def watched(self) -> AbstractContextManager[None]:
        """Watch a forward pass of the train loss's batch, for :meth:`update`.

        Returns:
            A context for it.
        """
        return self._watch.watched()

    def update(self, loss: Tensor, outputs: Tensor) -> None:
        """Take the sample.

        Args:
            loss: The train loss on the watched samples, computed from ``outputs``, a mean over samples.
            outputs: The network's outputs, (N, ..., C) with classes last, or (N,), with the graph of the pass inside
                :meth:`watched`.

        Raises:
            InputError: If there was no such pass, the loss does not depend on the outputs, or something is not finite;
                the sample stays as it was.
        """
        loss = _checks.scalar_loss("train_loss", loss)
        layers = list(self._watch.layers())
        if not layers:
            rule, cure = "`update` needs a watched forward pass.", "Call the model inside `with sketch.watched():`."
            raise InputError(explain(rule, "No layer was called, or none with a graph.", cure))
        if not isinstance(cast("object", outputs), Tensor) or not outputs.dim():
            rule, cure = (
                "`outputs` must be a tensor with samples along its first axis.",
                "Pass what the model returned.",
            )
            raise InputError(explain(rule, "It is a number, or no tensor.", cure))
        cotangents = random_cotangents(loss, outputs, self.draws, self._generator)
        size = cotangents.flatten(2).square().sum(2).flatten()
        if not bool(size.isfinite().all()):
            raise InputError(_not_finite())
        at, chance = sampled(size, self.size, self._generator)
        samples = len(outputs)
        calls = [call for _, recorded, _ in layers for call in recorded]
        kept: list[list[Tensor]] = [[] for _ in calls]
        ends = [call.output for call in calls]
        for k, u in enumerate(cotangents):
            own = at[at // samples == k] % samples
            found = filled(gradients(outputs, ends, (u.to(outputs),)), ends)
            for slopes, t in zip(kept, found, strict=True):
                slopes.append(_by_sample(t, samples)[own])
        slopes = {id(call): _scaled(torch.cat(parts), chance.rsqrt()) for call, parts in zip(calls, kept, strict=True)}
        places: dict[int, int] = {}
        for _, _, parameters in layers:
            for p in parameters.values():
                places.setdefault(id(p), len(places))
        rows = layer_rows(layers, slopes, places, Picked(at % samples, samples))
        if not rows:
            rule, cure = (
                "A curvature sketch needs a layer that treats samples apart.",
                "Solve without a preconditioner.",
            )
            raise InputError(explain(rule, "None of this network does.", cure))
        whole = gram(rows)
        if not bool(whole.isfinite().all()):
            raise InputError(_not_finite())
        self._rows, self._gram, self._places, self._cached = rows, whole, places, None
        self._watch.forget()

    def root(self, H: LossCurvature, /) -> Root:
        """Return the root of the preconditioner, for the operator's parameters and with its damping.

        Args:
            H: The operator.

        Returns:
            The root.

        Raises:
            InputError: Before the first :meth:`update`, without any damping, if the operator does not act on all
                weights of the sample, if they are sharded, or if the system is that of several ranks.
        """
        damping = self.caution * (self.damping + H.damping)
        at = {id(p): i for i, p in enumerate(H.params)}
        if not self._rows:
            rule, cure = "A curvature sketch must be taken before it is used.", "Call `update(loss, outputs)`."
            raise InputError(explain(rule, "There was no update.", cure))
        if damping <= 0.0:
            rule = "A curvature sketch needs damping: the sample is singular."
            cure = (
                "Pass `GaussNewton(..., damping=...)`, or the weight decay in the loss as `CurvatureSketch(damping=)`."
            )
            raise InputError(explain(rule, "Neither the operator nor the sketch has any.", cure))
        missing = sum(p not in at for p in self._places)
        if missing:
            rule = "The operator must act on all trainable weights of the sketch's model."
            cure = "Pass the same network to both; freeze the others by `requires_grad_(False)` before `update`."
            raise InputError(explain(rule, f"{missing} of {len(self._places)} tensors are not its parameters.", cure))
        if any(map(is_distributed, H.params)):
            rule, cure = "A curvature sketch needs whole weights.", "Use an `OptimizerMetric`, or no preconditioner."
            raise InputError(explain(rule, "Some are sharded (`DTensor`).", cure))
        if shared_by_ranks():
            rule = "A curvature sketch is one process's own, and all ranks must precondition alike."
            cure = "Use an `OptimizerMetric`, or no preconditioner."
            raise InputError(explain(rule, "The system is the mean of several ranks.", cure))
        key = damping, tuple(at)
        if self._cached is None or self._cached[0] != key:
            self._cached = key, Woodbury(self._rows, self._gram, [at[p] for p in self._places], damping)
        return self._cached[1]


def _by_sample(t: Tensor, samples: int) -> Tensor:
    # (N k, ...) becomes (N, k, ...); what cannot is left for its layer to complain about.
    return t.reshape(samples, -1, *t.shape[1:]) if len(t) % samples == 0 else t.new_zeros(samples, 0)


def _scaled(t: Tensor, by: Tensor) -> Tensor:
    return t * by.to(t).reshape(-1, *[1] * (t.dim() - 1))


def _not_finite() -> str:
    rule, cure = "A curvature sketch must be finite.", "Look for overflow or a too large learning rate."
    return explain(rule, "Some entries are NaN or infinite.", cure)
