"""A combiner that is learned along the way, in a loop of its own: the published method, and ours on pixels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from auxilearn.combiners import Conv, Standardized
from auxilearn.experiments.reproduce._inner import training_of
from auxilearn.experiments.reproduce._loop import Steps, go
from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce._recipe import Published
from auxilearn.experiments.reproduce._reproduction import Outcome
from auxilearn.experiments.reproduce.combined._task import CombinedTask
from auxilearn.hypernet import (
    Identity,
    MonoHyperNet,
    MonoLinearHyperNet,
    MonoNoFCCNNHyperNet,
    MonoNonlinearHyperNet,
)
from auxilearn.optim import MetaOptimizer
from auxilearn.safety import second_order
from auxilearn.training._data import rows_of, to_device
from auxilearn.training._descent import Descent
from auxilearn.training._looped import Looped
from auxilearn.training._problem import by_name
from auxilearn.training._sampler import Sampler

Form = Literal["linear", "deep linear", "nonlinear", "ConvNet"]

_WIDTH = 3  # of the hidden layer, as in the original code
_OURS_EVERY, _OURS_RATE = 10, 0.03


@final
@dataclass(frozen=True)
class LearnedCombiner:
    r"""Learn a combiner by the hypergradient, with the paper's settings or with ours.

    The paper's: raw losses, :math:`\alpha` and J of the recipe, the sum without its leading :math:`\alpha`, SGD with
    momentum, weights clamped at 0, and an auxiliary set that the network is not trained on. Ours: losses in units of
    their initial values, the default solver with its own :math:`\alpha`, Adam, and a second batch of training labels.

    Attributes:
        form: The combiner.
        published: Whether the settings are the paper's.
    """

    form: Form
    published: bool = True

    def __call__(self, task: CombinedTask, place: Place) -> Outcome:
        """Train.

        Args:
            task: The task.
            place: Where to work.

        Returns:
            The network, and the slope of the combined loss in each loss.
        """
        course = _Combining(task, self)
        looks = task.settings.looks
        key = f"{self} {task.settings} {task.seed}"
        model = go(course, course.steps, place, key=key, looks=looks, validate=task.validate)
        return Outcome(model, {"weights": course.slopes()})


def rescaled(values: Tensor, present: Tensor) -> Tensor:
    r"""Make the mean over everything the mean over what has a truth.

    .. math:: \tilde\ell_{ik} = \ell_{ik}\, \frac{N}{\#\{i : m_{ik}\}}

    So no combiner sees more of a loss because less of it is ignored, and all methods descend the same means.

    Args:
        values: Losses, zero where there is no truth, (B, K) or (B, K, H, W).
        present: The mask of the same shape.

    Returns:
        The same shape.

    Example:
        >>> values = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
        >>> rescaled(values, values > 0).mean(0)
        tensor([2., 2.])
    """
    places = [axis for axis in range(values.dim()) if axis != 1]
    count = present.sum(places, keepdim=True).clamp(min=1)
    return values * (values.numel() / values.shape[1] / count)


@final
class _Combining(Steps):
    def __init__(self, task: CombinedTask, method: LearnedCombiner) -> None:
        problem, settings = task.problem, task.settings
        self._task, self._method = task, method
        self._rows = rows_of(problem)
        self.model = problem.new_model().train()
        self._alone = Looped(problem, [self.model])
        training = training_of(settings, task.epoch, task.seed)
        self.steps = training.steps
        self._descent = Descent(self._alone.params, training, self._alone.device)
        labelled, held = self._rows.labelled, task.held_out
        size, outer = settings.batch, settings.batch
        if method.published:
            labelled, outer = labelled[~torch.isin(labelled, held)], settings.outer_batch
        else:
            held = labelled
        self._sampler = Sampler(labelled, self._rows.others, batch_size=size, seed=task.seed)
        self._outer_sampler = Sampler(held, self._rows.others[:0], batch_size=outer, seed=task.seed + 1)
        # Networks of the original draw from the global random state.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            self._net = self._build(len(problem.names or ())).to(self._alone.device)
        self._meta = self._outer_optimizer()
        self._seen: Tensor | None = None

    def _build(self, losses: int) -> nn.Module:
        main = self._task.problem.main
        if self._method.form == "ConvNet":
            if not self._method.published:
                generator = torch.Generator().manual_seed(self._task.seed)
                return Standardized(Conv(losses, main=main, generator=generator))
            return MonoNoFCCNNHyperNet(main_task=main, input_channels=losses)
        if self._method.form == "linear":
            return MonoLinearHyperNet(main, losses, weight_normalization=False)
        return MonoNonlinearHyperNet(
            main,
            losses,
            hidden_sizes=_WIDTH,
            nonlinearity=Identity() if self._method.form == "deep linear" else None,
            init_lower=0.0,
            init_upper=1.0,
            weight_normalization=False,
        )

    @property
    def _published(self) -> Published:
        own = self._task.published_conv if self._method.form == "ConvNet" else None
        return self._task.settings if own is None else own

    def _outer_optimizer(self) -> MetaOptimizer:
        params, s = list(self._net.parameters()), self._published
        if not self._method.published:
            return MetaOptimizer(torch.optim.Adam(params, lr=_OURS_RATE), on_failure="skip")
        sgd = torch.optim.SGD(params, lr=s.outer_lr, momentum=0.9, weight_decay=s.outer_decay)
        return MetaOptimizer(sgd, hpo_lr=s.alpha, truncate_iter=s.terms, max_grad_norm=s.clip, on_failure="skip")

    def step(self) -> dict[str, float]:
        batch, labelled = self._rows.batch(self._sampler.draw(), self._alone.device)
        means: Tensor | None = None

        def loss() -> Tensor:
            nonlocal means
            values, means = self._losses(batch, labelled)
            self._seen = values.detach()
            return self._net(values)

        self._net.requires_grad_(False)
        self._descent.step([loss])
        self._net.requires_grad_(True)
        every = self._task.settings.every if self._method.published else _OURS_EVERY
        if (self.number + 1) % every == 0:
            self._outer_step(batch, labelled)
        assert means is not None
        return by_name(self._task.problem.named(len(means)), means)

    def _outer_step(self, batch: Any, labelled: Tensor) -> None:
        held = self._rows.batch(self._outer_sampler.draw(), self._alone.device)
        with second_order(self.model, self._net):
            train_loss = self._net(self._losses(batch, labelled)[0])
            main_loss = self._losses(*held)[1][self._task.problem.main]
        self._meta.step(train_loss, main_loss, self._alone.params, self._net.parameters())
        if isinstance(self._net, MonoHyperNet):
            self._net.clamp()

    def _losses(self, batch: Any, labelled: Tensor) -> tuple[Tensor, Tensor]:
        # What the combiner reads, and the mean of each loss.
        if self._method.form == "ConvNet":
            assert self._task.pixels is not None
            values, present = self._task.pixels(self.model, batch)
            scaled = rescaled(values, present)
            return scaled, scaled.mean((0, 2, 3))
        measured = self._alone.measure(batch, labelled)
        means = measured.means()[0]
        if self._method.form == "linear":
            return means[None], means
        return rescaled(measured.values[0], measured.present), means

    def slopes(self) -> dict[str, float]:
        """Say how much each loss counts at last: the derivative of the combined loss.

        Returns:
            A number for each loss, by name; empty before the first step.
        """
        if self._seen is None:
            return {}
        losses = self._seen.clone().requires_grad_()
        with second_order(self._net):
            (slope,) = torch.autograd.grad(self._net(losses), losses)
        found = slope.sum([axis for axis in range(slope.dim()) if axis != 1])
        return by_name(self._task.problem.named(len(found)), found)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "net": self._net.state_dict(),
            "descent": self._descent.state_dict(),
            "meta": self._meta.state_dict(),
            "samplers": [self._sampler.state_dict(), self._outer_sampler.state_dict()],
            "seen": self._seen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self._net.load_state_dict(state["net"])
        self._descent.load_state_dict(state["descent"])
        self._meta.load_state_dict(state["meta"])
        for sampler, part in zip((self._sampler, self._outer_sampler), state["samplers"], strict=True):
            sampler.load_state_dict(part)
        self._seen = None if state["seen"] is None else to_device(state["seen"], self._alone.device)


def published_forms(*, pixels: bool) -> Mapping[str, Callable[[CombinedTask, Place], Outcome]]:
    """List the paper's own methods.

    Args:
        pixels: Whether there are losses of pixels.

    Returns:
        Methods by name.
    """
    forms: tuple[Form, ...] = ("linear", "deep linear", "nonlinear")
    found: dict[str, Callable[[CombinedTask, Place], Outcome]] = {
        f"AuxiLearn, {form}": LearnedCombiner(form) for form in forms
    }
    if pixels:
        found["AuxiLearn, ConvNet"] = LearnedCombiner("ConvNet")
    return found
