"""Ours: a rule from a sample's loss to its weight, learned by cross-fitted hypergradients in a convex inner problem."""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from auxilearn.experiments.cleaning._nets import StackedClassifier, cross_entropies
from auxilearn.experiments.cleaning._task import CleaningTask
from auxilearn.optim import MetaOptimizer
from auxilearn.solvers import ConjugateGradient


@final
@dataclass(frozen=True)
class Settings:
    r"""How the rule is learned.

    Attributes:
        folds: Folds of the clean set.
        steps: Outer steps.
        rescore: Every how many of them the noisy samples are scored again.
        lr: The learning rate of the outer Adam; 0 keeps the rule as it starts.
        first: Iterations of the first inner solve, and of the one after samples were scored.
        inner: Iterations of the others, which start from the last solution.
        products: The most products with the Hessian for a hypergradient.
        threshold: Where :math:`a` starts.
        log_slope: Where :math:`\log b` starts.
        log_clean: Where :math:`\log c` starts.
        log_decay: Where :math:`\log\lambda` starts.
    """

    folds: int = 5
    steps: int = 16
    rescore: int = 4
    lr: float = 0.3
    first: int = 20
    inner: int = 8
    products: int = 20
    threshold: float = 1.0
    log_slope: float = 0.0
    log_clean: float = 1.0
    log_decay: float = -3.5


@final
class Rule(nn.Module):
    r"""The upper parameters: five numbers.

    A noisy sample of loss :math:`s` has the weight :math:`w = \sigma(a - b s)`; a clean one has :math:`c`; the inner
    decay is :math:`\lambda`; the outer loss is taken at logits times :math:`\tau`. If labels are replaced at rate
    :math:`r` by one of n classes and the model is right about the class, :math:`a = \log\frac{n(1 - r)}{r}` and
    :math:`b = 1` make :math:`w` the probability that the label was not replaced. Without :math:`\tau` the cross
    entropy on held-out samples asks for confidence, and :math:`\lambda` falls until the noise is memorised.

    Args:
        start: Where the numbers start; the temperature at 1.

    Example:
        >>> rule = Rule(Settings())
        >>> [round(w, 2) for w in rule.weights(torch.tensor([0.0, 1.0, 5.0])).tolist()]
        [0.73, 0.5, 0.02]
    """

    def __init__(self, start: Settings) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(start.threshold))
        self.log_slope = nn.Parameter(torch.tensor(start.log_slope))
        self.log_clean = nn.Parameter(torch.tensor(start.log_clean))
        self.log_decay = nn.Parameter(torch.tensor(start.log_decay))
        self.log_temperature = nn.Parameter(torch.tensor(0.0))

    def weights(self, scores: Tensor) -> Tensor:
        """Return the weights of noisy samples.

        Args:
            scores: Their losses, any shape.

        Returns:
            The same shape, between 0 and 1, decreasing in the loss.
        """
        return torch.sigmoid(self.threshold - self.log_slope.exp() * scores)


@final
@dataclass(frozen=True)
class Cleaned:
    """What was learned.

    Attributes:
        weights: One weight for each noisy sample, shape (N,).
        clean: The weight of every clean sample.
        decay: The decay of a linear model on the features.
        rule: The upper parameters, by name.
        outer: The outer loss at each step.
    """

    weights: Tensor
    clean: float
    decay: float
    rule: dict[str, float]
    outer: list[float]


def learn(task: CleaningTask, features: Tensor, settings: Settings, *, seed: int) -> Cleaned:
    """Learn one weight for each noisy sample.

    Two linear models for each fold of the clean set, one for each half of the noisy samples: it is trained on the other
    folds and on its half, its outer loss is the cross entropy on its fold. A half is scored by the fold's other model.
    So no sample is scored by a model that was trained on it, and no outer sample has a part, not even through the
    scores, in the weights under which its model was trained. All models are one convex problem, whose hypergradient
    conjugate gradients give.

    Args:
        task: The samples; its test set and ``right`` are not read.
        features: Of the clean, then the noisy samples, shape (C + N, D).
        settings: How.
        seed: The seed of the halves; the global random state is not touched.

    Returns:
        The weights and the rule.

    References:
        Navon et al., ICLR 2021, Eqs. (4)-(5), for the hypergradient; Shu et al., "Meta-Weight-Net", NeurIPS 2019, for
        weights as a function of the loss.
    """
    inner, rule = _Inner(task, features, settings.folds, seed), Rule(settings)
    adam = torch.optim.Adam(rule.parameters(), lr=settings.lr, betas=(0.8, 0.95))
    solver = ConjugateGradient(max_steps=settings.products, tolerance=0.03)
    meta = MetaOptimizer(adam, solver=solver, max_grad_norm=None, on_failure="skip")
    # Before there is a model, every sample scores as under a guess.
    scores = torch.full((len(inner.rows), inner.half), math.log(10.0))
    inner.solve(rule, scores, settings.first)
    outer: list[float] = []
    for step in range(settings.steps):
        fresh = step % settings.rescore == 0
        scores = inner.scores() if fresh else scores
        inner.solve(rule, scores, settings.first if fresh else settings.inner)
        losses = inner.losses()
        val_loss = inner.val_loss(rule)
        meta.step(inner.train_loss(rule, losses, scores), val_loss, inner.net.parameters(), rule.parameters())
        outer.append(val_loss.item())
    with torch.no_grad():
        weights = rule.weights(inner.joined(inner.scores()))
    found = {name: p.item() for name, p in rule.named_parameters()}
    return Cleaned(weights, math.exp(found["log_clean"]), math.exp(found["log_decay"]), found, outer)


class _Inner:
    # M = 2 · folds linear models; model 2f + h leaves out fold f and sees half h.
    def __init__(self, task: CleaningTask, features: Tensor, folds: int, seed: int) -> None:
        self.clean, self.noisy = len(task.clean_y), len(task.noisy_y)
        self.half = self.noisy // 2
        order = torch.randperm(self.noisy, generator=torch.Generator().manual_seed(seed))
        self.halves = order[: 2 * self.half].reshape(2, -1)
        halves = self.halves.repeat(folds, 1)  # (M, N / 2)
        self.rows = torch.cat([torch.arange(self.clean).expand(2 * folds, -1), self.clean + halves], 1)
        fold = torch.arange(self.clean) // 10 % folds  # blocks of ten hold each class once
        held = fold == torch.arange(folds).repeat_interleave(2)[:, None]  # (M, C)
        self.kept, self.held = (~held).float(), held.float() / held.sum()
        self.x, self.y = features[self.rows], task.y[self.rows]
        self.net = StackedClassifier((features.shape[1], 10), models=2 * folds, seed=seed)

    def losses(self) -> Tensor:
        return cross_entropies(self.net(self.x), self.y)

    def train_loss(self, rule: Rule, losses: Tensor, scores: Tensor) -> Tensor:
        clean = rule.log_clean.exp()
        # Divided, so that the decay keeps its meaning when the clean samples' weight changes.
        total = self.clean * clean + self.half
        clean_part = clean * (self.kept * losses[:, : self.clean]).sum()
        noisy_part = (rule.weights(scores) * losses[:, self.clean :]).sum()
        return (clean_part + noisy_part) / total + rule.log_decay.exp() / 2 * self.net.squares().sum()

    def val_loss(self, rule: Rule) -> Tensor:
        logits = self.net(self.x[:, : self.clean])
        return (self.held * cross_entropies(rule.log_temperature.exp() * logits, self.y[:, : self.clean])).sum()

    def solve(self, rule: Rule, scores: Tensor, iterations: int) -> None:
        fixed = rule.requires_grad_(False)
        lbfgs = torch.optim.LBFGS(
            self.net.parameters(),
            max_iter=iterations,
            history_size=8,
            tolerance_grad=1e-9,
            tolerance_change=1e-14,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            lbfgs.zero_grad()
            loss = self.train_loss(fixed, self.losses(), scores)
            loss.backward()
            return loss

        lbfgs.step(closure)
        rule.requires_grad_(True)

    @torch.no_grad()
    def scores(self) -> Tensor:
        # Each fold's models score each other's half: swap the samples, then they lie as the rows do.
        x, y = self.x[:, self.clean :], self.y[:, self.clean :]
        return self._swap(cross_entropies(self.net(self._swap(x)), self._swap(y)))

    @staticmethod
    def _swap(values: Tensor) -> Tensor:
        return values.reshape(-1, 2, *values.shape[1:]).flip(1).flatten(0, 1)

    def joined(self, scores: Tensor) -> Tensor:
        # The mean over folds, in the order of the samples; of an odd number the last drawn stays at a guess.
        means = scores.reshape(-1, 2, *scores.shape[1:]).mean(0)  # (2, N / 2)
        found = torch.full((self.noisy,), math.log(10.0))
        found[self.halves.flatten()] = means.flatten()
        return found
