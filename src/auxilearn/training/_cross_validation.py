"""Out-of-fold losses of fixed weights: how a grid or a random search is judged without a label of its own."""

from torch import Tensor

from auxilearn.training._data import rows_of
from auxilearn.training._descent import Descent
from auxilearn.training._evaluate import initial_losses
from auxilearn.training._folding import folding_of, out_of_fold
from auxilearn.training._problem import Problem
from auxilearn.training._returned import refuse_broken
from auxilearn.training._sampler import Sampler
from auxilearn.training._settings import Training
from auxilearn.training._vectorised import fleet


def cross_validated(
    problem: Problem, weights: Tensor, training: Training, *, folds: int = 5, used: int | None = None
) -> Tensor:
    """Train a model for every row of weights and every fold, all at once, and judge it on its fold.

    Args:
        problem: The problem.
        weights: A row for each candidate, (C, K), of losses in units of their initial values.
        training: The inner training.
        folds: Stratified folds of the main labels.
        used: How many of them are held out in turn; all by default. With 1 it is a plain hold-out.

    Returns:
        The main loss of each held-out sample, calibrated if the problem has ``logits``, (C, N).
    """
    rows, start = rows_of(problem), problem.new_model()
    scale = initial_losses(problem, rows, start, seed=training.seed)
    names, device = problem.named(len(scale)), scale.device
    used = folds if used is None else used
    folding = folding_of(problem, rows, start, folds=folds, used=used, seed=training.seed)
    size = rows.a_step(training.batch_size)
    first = Sampler(rows.labelled, rows.others, batch_size=size, seed=training.seed).draw()
    sampler = Sampler(rows.labelled, rows.others, batch_size=size, seed=training.seed)
    models = fleet(problem, start, len(weights) * used, *rows.batch(first, device))
    descent = Descent(models.params, training, device, clip=models.clip)
    each = weights.to(scale).repeat_interleave(used, 0)  # (M, K)

    def total() -> Tensor:
        drawn = sampler.draw()
        with descent.autocast():
            measured = models.measure(*rows.batch(drawn, device))
        refuse_broken(measured, names)
        return (each * folding.seen(measured.over(scale), drawn).means()).sum()

    for _ in range(training.steps):
        descent.step([total] * training.accumulate)
    return out_of_fold(problem, rows, folding, models)
