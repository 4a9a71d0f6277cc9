"""The original package, as it was shipped: its combiner, its settings, a fifth of the labels held out, no refit."""

import torch
from torch import Tensor, nn

from auxilearn.hypernet import MonoLinearHyperNet
from auxilearn.optim import MetaOptimizer
from auxilearn.safety import second_order
from auxilearn.training import Problem, Training
from auxilearn.training._data import rows_of
from auxilearn.training._descent import Descent
from auxilearn.training._evaluate import main_labels
from auxilearn.training._folds import folds_of
from auxilearn.training._looped import Looped
from auxilearn.training._sampler import Sampler

EVERY, CLIP, FOLDS = 10, 25.0, 5


def train_original(problem: Problem, training: Training) -> tuple[nn.Module, Tensor]:
    r"""Train with AuxiLearn 1.0.0's linear network and the settings of its scripts.

    Raw losses, weights from 1, clamped at 0, SGD with momentum 0.9, learning rate 1e-3 and weight decay 1e-4 for them,
    :math:`\alpha = 10^{-4}`, J = 3, the sum without its leading :math:`\alpha`. Its scripts step the weights every 50
    steps of far longer runs; here it is every 10.

    Args:
        problem: The problem.
        training: The inner training.

    Returns:
        The model in evaluation mode, and the weights, (K,).

    References:
        Navon et al., ICLR 2021, and the scripts of its repository for NYUv2.
    """
    rows, model = rows_of(problem), problem.new_model()
    labels = main_labels(problem, rows, model)
    fold = folds_of(labels, len(rows.labelled), FOLDS, seed=training.seed)
    size = rows.a_step(training.batch_size)
    sampler = Sampler(rows.labelled[fold != 0], rows.others, batch_size=size, seed=training.seed)
    outer = Sampler(rows.labelled[fold == 0], rows.others[:0], batch_size=size, seed=training.seed + 1)
    alone = Looped(problem, [model.train()])
    descent = Descent(alone.params, training, alone.device)

    def means(drawn: Tensor) -> Tensor:
        return alone.measure(*rows.batch(drawn, alone.device)).means()[0]

    count = len(means(rows.labelled[:2]))
    net = MonoLinearHyperNet(problem.main, count, weight_normalization=False).to(alone.device)
    sgd = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    meta = MetaOptimizer(sgd, hpo_lr=1e-4, truncate_iter=3, max_grad_norm=CLIP, on_failure="skip")
    for number in range(training.steps):
        drawn = sampler.draw()
        descent.step([lambda drawn=drawn: net(means(drawn)[None])])
        if number % EVERY == EVERY - 1:
            with second_order(model):
                train_loss, main_loss = net(means(drawn)[None]), means(outer.draw())[problem.main]
            meta.step(train_loss, main_loss, alone.params, net.parameters())
            net.clamp()
    return model.eval(), net.linear.weight.detach()[0]
