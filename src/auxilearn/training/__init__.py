r"""Train a model on a main loss with the help of auxiliary ones: one call, or a step at a time.

Say what there is as a :class:`Problem`: a model, a function of model and batch that returns the losses of each sample,
``(B, K)``, and data. :class:`Trainer` does the rest: it learns how to combine the losses, decides on main labels that a
model did not train on whether that is better than the main loss alone, trains the final model on all labels, and says
what it found.

>>> import torch
>>> from torch import nn
>>> from torch.nn import functional as F
>>> from auxilearn.training import Problem, Trainer, Training
>>> _ = torch.manual_seed(0)
>>> x = torch.randn(300, 8)
>>> scores = x @ torch.randn(8, 3)
>>> y, noise = scores.argmax(1), torch.randn(300, 1)
>>> def losses(model, batch):  # (B, 3): the class; its scores, which help; and noise, which does not
...     x, y, scores, noise = batch
...     z = model(x)
...     return torch.stack([
...         F.cross_entropy(z[:, :3], y, reduction="none"),
...         (z[:, 3:6] - scores).square().mean(1),
...         (z[:, 6:] - noise).square().mean(1),
...     ], dim=1)
>>> problem = Problem(
...     nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 7)),
...     losses,
...     data=(x, y, scores, noise),
...     labelled=torch.arange(60),  # only these rows have a class
...     logits=lambda model, batch: (model(batch[0])[:, :3], batch[1]),
...     names=("class", "scores", "noise"),
... )
>>> fit = Trainer(problem, training=Training(steps=60)).fit()
>>> sorted(fit.weights)
['class', 'noise', 'scores']
>>> fit.verdict.chosen in {"main only", "learned"}
True
>>> fit.model(x).shape  # trained, and in evaluation mode
torch.Size([300, 7])

By default each loss has a weight that starts at 1 and stays below 3, and the gate takes whichever has the lower
out-of-fold loss, that or the main loss alone (``threshold`` asks for more). It judges each label by models that saw
nothing of the label's row, neither the main loss nor an auxiliary one, which might give the label away. ``print(fit)``
shows the weights, how useful each loss was, and notes, which are logged, too. Which main labels the combiner is judged
by while it learns is the outer policy:

=====================  ======================  ===============  =====================================================
policy                 judged by               trains           notes
=====================  ======================  ===============  =====================================================
:class:`SecondBatch`   labels that it trains   16 models, 15    no label is lost, and the gate, which looks at folds
                       on, of another batch    of them at once  left out, falls back to the main loss where nothing
                                                                else helps; ``Learned.fast()`` has no gate, trains
                                                                one model, and tells nobody of harm
:class:`CrossFit`      a fold of whose rows    the same         no label is lost, and there is a gate, too; where a
                       the model sees nothing                   model memorises its labels at once
:class:`HeldOut`       a share of the labels,  2 models         for many labels; a second share says whether the
                       lost to the search                       first one is overfitted
=====================  ======================  ===============  =====================================================

A weighting of :mod:`auxilearn.weighting` in place of :class:`Learned` runs in the same loop, on the same batches.
:class:`Training` has optimizer, schedule, precision, accumulation and clipping; callbacks watch and stop
(:class:`EarlyStopping`, :class:`ProgressBar`, :class:`TensorBoard`); with ``folder=`` a run that was interrupted goes
on exactly. In a loop of one's own the trainer is two steps:

>>> from auxilearn.training import Learned
>>> trainer = Trainer(problem, Learned.fast())
>>> labelled, outer = torch.arange(300) < 60, tuple(t[:60] for t in problem.data)
>>> for step in range(20):
...     found = trainer.train_step(problem.data, labelled=labelled)
...     if step % 10 == 9:
...         report = trainer.outer_step(problem.data, outer, labelled=labelled)
>>> sorted(found)
['class', 'noise', 'scores']
"""

from auxilearn.training._callbacks import Callback, EarlyStopping, ProgressBar, TensorBoard
from auxilearn.training._fit import Fit, Record
from auxilearn.training._gate import Verdict, gate
from auxilearn.training._learned import CrossFit, HeldOut, Learned, SecondBatch
from auxilearn.training._problem import Problem
from auxilearn.training._settings import Training
from auxilearn.training._trainer import Trainer

__all__ = [
    "Callback",
    "CrossFit",
    "EarlyStopping",
    "Fit",
    "HeldOut",
    "Learned",
    "Problem",
    "ProgressBar",
    "Record",
    "SecondBatch",
    "TensorBoard",
    "Trainer",
    "Training",
    "Verdict",
    "gate",
]
