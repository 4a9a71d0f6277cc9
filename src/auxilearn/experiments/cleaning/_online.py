"""The original way: one free weight for each noisy sample, learned while the model trains, a fifth held out."""

from collections.abc import Callable

import torch
from torch import Tensor

from auxilearn.experiments.cleaning._nets import StackedClassifier, cross_entropies, fit, objective
from auxilearn.experiments.cleaning._task import CleaningTask
from auxilearn.optim import MetaOptimizer

EVERY, HELD_OUT = 10, 5


def train_online(
    task: CleaningTask,
    net: StackedClassifier,
    decay: Tensor,
    *,
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
    steps: int = 300,
) -> Tensor:
    r"""Train with weights from 1, clamped at 0, that follow the unscaled sum of :math:`\alpha = 10^{-4}`, J = 3.

    Args:
        task: The samples; its test set and ``right`` are not read.
        net: M models, which differ in their decay; trained in place.
        decay: Shape (M,).
        optimizer: Makes the outer optimizer.
        steps: Inner steps; every tenth is followed by an outer one.

    Returns:
        The weights of the noisy samples, shape (M, N).

    References:
        Navon et al., ICLR 2021, with the settings of the scripts of its repository.
    """
    clean, x, y = len(task.clean_y), task.x, task.y
    models = len(decay)
    # Rows lie in blocks of ten classes: a fifth of the blocks is a stratified outer set.
    held = torch.arange(clean) // 10 % HELD_OUT == 0
    phi = torch.ones(models, len(task.noisy_y), requires_grad=True)
    meta = MetaOptimizer(optimizer([phi]), hpo_lr=1e-4, truncate_iter=3, max_grad_norm=25.0, on_failure="skip")
    weights = torch.cat([(~held).float().expand(models, -1), torch.ones_like(phi)], 1)

    def every(step: int) -> None:
        if step % EVERY != EVERY - 1:
            return
        graph = torch.cat([weights[:, :clean], phi], 1)
        losses = cross_entropies(net(x), y)
        outer = losses[:, :clean][:, held].mean(1).sum()
        meta.step(objective(net, losses, graph, decay), outer, net.parameters(), [phi])
        with torch.no_grad():
            weights[:, clean:] = phi.clamp_(min=0)

    fit(net, x, y, weights=weights, decay=decay, steps=steps, every=every)
    return phi.detach()
