"""Train a model with auxiliary losses: one call, or a step at a time."""

import logging
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import final

from torch import Tensor, nn

from auxilearn import _checks, _ranks
from auxilearn._checks import explain
from auxilearn.combiners import LossCombiner
from auxilearn.errors import InputError
from auxilearn.solvers import SolveReport
from auxilearn.training._arguments import check_kinds, checked_method
from auxilearn.training._callbacks import Callback
from auxilearn.training._course import Course
from auxilearn.training._data import rows_of, to_device
from auxilearn.training._evaluate import initial_losses, main_labels, main_losses
from auxilearn.training._fit import Fit, Record
from auxilearn.training._folds import folds_of, parts_of
from auxilearn.training._gate import LEARNED, MAIN_ONLY, Verdict, gate
from auxilearn.training._interrupt import interrupts_between_steps
from auxilearn.training._learned import CrossFit, HeldOut, Learned, SecondBatch
from auxilearn.training._monitor import collapse, overfitting
from auxilearn.training._objective import Combined, Objective, Weighted
from auxilearn.training._problem import Batch, Problem, by_name
from auxilearn.training._run import Run
from auxilearn.training._search import Found, Search, significance
from auxilearn.training._settings import Training
from auxilearn.training._snapshot import Phase, Snapshot, Snapshots
from auxilearn.training._upper import Upper
from auxilearn.weighting import MainOnly, Weighting

_log = logging.getLogger("auxilearn")
_RECORD_EVERY = 10


@final
class Trainer:
    """Train a model on a main loss with the help of auxiliary ones.

    :meth:`fit` does all: it learns how to combine the losses, decides on main labels that a model did not train on
    whether that is better than the main loss alone, and trains the final model on all labels. For a loop of one's own
    there are :meth:`train_step` and :meth:`outer_step`.

    Args:
        problem: The model, its losses and data.
        method: Learned combination, by default, or a weighting of the literature.
        training: The inner training.
        callbacks: What watches and may stop it.
        folder: Where checkpoints go; :meth:`fit` goes on from one that is there. None keeps none.
        save_every: Steps between two checkpoints; besides, one is kept at every interruption.

    Attributes:
        model: The network that is being trained.
        phase: ``"search"`` or ``"train"``.
        stop: Set by a callback to end the phase.

    Raises:
        InputError: If the data, the losses or the settings break a rule, or there are several ranks that were not
            declared independent; nothing was trained or written then.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(60, 4)
        >>> y = torch.stack([x[:, 0], x[:, 0] + 0.1 * x[:, 1], x[:, 3].cos()], 1)
        >>> def losses(model, batch):
        ...     x, y = batch
        ...     return (model(x) - y).square()
        >>> problem = Problem(nn.Linear(4, 3), losses, data=(x, y), labelled=torch.arange(20))
        >>> fit = Trainer(problem, Learned(), Training(steps=60)).fit()
        >>> sorted(fit.weights)
        ['loss 1', 'loss 2', 'main']
    """

    def __init__(
        self,
        problem: Problem,
        method: Learned | Weighting | None = None,
        training: Training | None = None,
        *,
        callbacks: Sequence[Callback] = (),
        folder: str | Path | None = None,
        save_every: int = 500,
    ) -> None:
        _ranks.refuse_undeclared(
            "`Trainer` trains one model in one process, which", "Write the loop with `MetaOptimizer(..., group=...)`."
        )
        _checks.count("save_every", save_every, 1)
        check_kinds(problem, training, callbacks)
        self._problem, self._method = problem, checked_method(Learned() if method is None else method)
        self._training = Training() if training is None else training
        self._callbacks, self._save_every = tuple(callbacks), save_every
        self._rows = rows_of(problem)
        self._start = problem.new_model()  # a function may draw new weights at each call, and all must start alike
        units = isinstance(self._method, Learned) or self._method.normalise
        seed = self._training.seed
        self._scale = initial_losses(problem, self._rows, self._start, seed=seed, needed=units)
        self._names = problem.named(len(self._scale))
        self._auxiliary = [k for k in range(len(self._scale)) if k != problem.main]
        if isinstance(self._method, Learned) and not self._auxiliary:
            rule = "`Learned` needs at least one auxiliary loss."
            raise InputError(explain(rule, "There is the main loss alone.", "Add a column, or use `MainOnly()`."))
        self._snapshots = Snapshots(folder, self._start, self._scale, self._callbacks)
        self._reset()
        settings = [self._training, self._method, self._run.settings]
        self._snapshots.identify(problem, self._rows, self._names, settings)

    def _reset(self) -> None:
        self._courses: dict[Phase, Course] = {}
        self._ended: list[Phase] = []
        self._notes: list[str] = []
        self.history: list[Record] = []
        self.phase: Phase = "train"
        self.stop = False
        self._snapshots.mark("built")
        self._run = self._first_run()
        self._fresh = True

    @property
    def model(self) -> nn.Module:
        """The network that is being trained; during a search with ``CrossFit`` it waits, untrained."""
        return self._run.model

    @property
    def number(self) -> int:
        """How many steps of the present phase have been taken."""
        return self._courses.get(self.phase, self._run).number

    # ---------------------------------------------------------------------------------------------- one call

    def fit(self) -> Fit:
        """Train, from the checkpoint if there is one, else from the start: steps taken by hand are forgotten.

        Ctrl-C is heard between two steps, and saves a checkpoint there; a second one is heard at once.

        Returns:
            The trained model with what was learned on the way.

        Raises:
            InputError: If a loss turns out NaN or infinite, the settings leave no outer step, or the checkpoint is of
                another run.
        """
        self._refuse_no_outer_step()
        state = self._snapshots.last()
        if state is not None or not self._fresh or self._run.number:
            self._reset()
        self._fresh = False
        self._snapshots.mark("begun")
        if state is not None:
            self.history, self._ended = state.records(), list(state.ended)
        try:
            found, verdict = self._searched(state)
            self._go("train", self._run, state)
        finally:
            for callback in self._callbacks:
                callback.on_end(self)
        return self._finished(found, verdict)

    def _refuse_no_outer_step(self) -> None:
        method, steps = self._method, self._training.steps
        if isinstance(method, Learned) and method.warmup >= steps:
            rule = "`warmup` must be less than `steps`, or no outer step is ever taken."
            finding = f"It is {method.warmup}, and there are {steps} steps."
            raise InputError(explain(rule, finding, "Train for longer, or pass `Learned(warmup=...)`."))

    def _searched(self, state: Snapshot | None) -> tuple[Found | None, Verdict | None]:
        method = self._method
        if not isinstance(method, Learned):
            return None, None
        if not (method.gate if isinstance(method.outer, SecondBatch) else method.refit):
            return None, None
        if isinstance(method.outer, HeldOut):
            self._go("search", self._run, state)
            self._say_trouble(self._upper.trouble())
            self._watch()
            self._run = self._new_run(Combined(self._upper.combiner(), self._scale, main=self._problem.main))
            return None, None
        search = Search(self._problem, self._rows, method, self._training, self._new_model(), self._scale)
        self._go("search", search, state)
        found = search.found()
        verdict = gate(found.out_of_fold, threshold=method.threshold) if method.gate else None
        # With a second batch the combiner is learned along the way, as the gate's models did, now on all labels.
        if not isinstance(method.outer, SecondBatch) or (verdict is not None and verdict.chosen != LEARNED):
            self._run = self._new_run(self._objective_of(verdict, found.combiner))
        self._say_trouble(found.trouble)
        if verdict is not None:
            self._say(str(verdict), loud=verdict.chosen == MAIN_ONLY)
        return found, verdict

    def _go(self, phase: Phase, course: Course, state: Snapshot | None) -> None:
        self.phase, self.stop, self._courses[phase] = phase, False, course
        if state is not None and phase in state.courses:
            self.stop = state.restore(phase, course, self._callbacks)
        else:
            self._save()
        if phase in self._ended:
            return
        for callback in self._callbacks:
            callback.on_start(self, phase, self._training.steps, course.number)
        whole = True  # whether the state is one between two steps
        with interrupts_between_steps() as check:
            try:
                while course.number < self._training.steps and not self.stop:
                    whole = False
                    course.step()
                    whole = True
                    if course.number % _RECORD_EVERY == 0:
                        self.history.append(self._record())
                    for callback in self._callbacks:
                        callback.on_step(self, self._record)
                    check()
                    if course.number % self._save_every == 0:
                        self._save()
            except KeyboardInterrupt:
                if whole:
                    self._save()
                raise
            self._ended.append(phase)
            self._save()

    def _save(self) -> None:
        self._snapshots.take(self.phase, self._courses, self._ended, self.history, stop=self.stop)

    def _finished(self, found: Found | None, verdict: Verdict | None) -> Fit:
        if self._run.learns:  # no model was trained after it
            self._say_trouble(self._upper.trouble())
            self._watch()
        weights = by_name(self._names, self._run.objective.weights)
        learned = isinstance(self._run.objective, Combined)
        if learned and (line := collapse(weights, self._names[self._problem.main])):
            self._say(line, loud=True)
        useful: dict[str, float] = {}
        if found is not None:
            useful = by_name(tuple(self._names[k] for k in self._auxiliary), significance(found.scores))
        combiner = self._run.objective.combiner() if isinstance(self._run.objective, Combined) else None
        notes, history = tuple(self._notes), tuple(self.history)
        return Fit(self.model.eval(), weights, combiner, verdict, useful, notes, history)

    # ------------------------------------------------------------------------------------- a loop of one's own

    def train_step(self, batch: Batch, *, labelled: Tensor | None = None) -> dict[str, float]:
        """Take one step of the inner optimizer.

        Args:
            batch: What ``losses`` takes.
            labelled: Which of its rows carry a main label, a mask (B,); None: all.

        Returns:
            The mean of each loss over the batch, by name, in its own units.

        Raises:
            InputError: If a loss is not finite; the weights were not moved then.
        """
        return by_name(self._names, self._run.train_step([self._part(batch, labelled)]))

    def outer_step(self, batch: Batch, outer_batch: Batch, *, labelled: Tensor | None = None) -> SolveReport:
        """Take one step of the outer optimizer: move the combiner by its hypergradient.

        Args:
            batch: A training batch.
            outer_batch: Samples with main labels for the outer loss; best such that are not trained on.
            labelled: Which rows of ``batch`` carry a main label, a mask (B,); None: all.

        Returns:
            The solver's report.

        Raises:
            InputError: If the method learns no combiner, or a loss is not finite.
        """
        return self._run.outer_step(self._part(batch, labelled), self._part(outer_batch, None))

    def _part(self, batch: Batch, labelled: Tensor | None) -> tuple[Batch, Tensor | None]:
        device = self._scale.device
        return to_device(batch, device), to_device(labelled, device)

    # --------------------------------------------------------------------------------------------------- parts

    def _first_run(self) -> Run:
        method, labelled = self._method, self._rows.labelled
        if isinstance(method, Weighting):
            return self._new_run(self._weighted(method))
        self._upper = Upper(method, len(self._auxiliary), 1, self._scale.device)
        objective = Combined(self._upper, self._scale, main=self._problem.main)
        outer, self._watched = labelled, labelled[:0]
        if isinstance(method.outer, HeldOut):
            labels = main_labels(self._problem, self._rows, self._start)
            labelled, outer, self._watched = parts_of(labelled, labels, method.outer.share, seed=self._training.seed)
        if isinstance(method.outer, CrossFit) or (isinstance(method.outer, SecondBatch) and method.gate):
            # The folds are dealt when the search begins; a hopeless deal shows now.
            folds_of(None, len(labelled), method.outer.folds, seed=self._training.seed)
        self._outer = outer
        return self._new_run(objective, labelled=labelled, outer=outer, online=(method, self._upper))

    def _new_run(
        self,
        objective: Objective,
        *,
        labelled: Tensor | None = None,
        outer: Tensor | None = None,
        online: tuple[Learned, Upper] | None = None,
    ) -> Run:
        return Run(
            self._problem,
            self._rows,
            self._training,
            self._new_model(),
            self._scale,
            objective,
            labelled=self._rows.labelled if labelled is None else labelled,
            outer=outer,
            online=online,
        )

    def _new_model(self) -> nn.Module:
        return deepcopy(self._start)

    def _objective_of(self, verdict: Verdict | None, combiner: LossCombiner) -> Objective:
        if verdict is not None and verdict.chosen == MAIN_ONLY:
            return self._weighted(MainOnly())
        return Combined(combiner, self._scale, main=self._problem.main)

    def _weighted(self, weighting: Weighting) -> Weighted:
        return Weighted(weighting, self._scale, main=self._problem.main, steps=self._training.steps)

    def _watch(self) -> None:
        # Outer targets against labels beside them; both were held out of training.
        if len(self._watched):
            model = self._run.model.eval()
            losses = [main_losses(self._problem, self._rows, model, rows) for rows in (self._outer, self._watched)]
            if line := overfitting(*losses):
                self._say(line, loud=True)

    def _say_trouble(self, line: str | None) -> None:
        if line is not None:
            self._say(line, loud=True)

    def _say(self, line: str, *, loud: bool) -> None:
        self._notes.append(line)
        _log.log(logging.WARNING if loud else logging.INFO, line)

    def _record(self) -> Record:
        course = self._courses[self.phase]
        losses, weights = by_name(self._names, course.means), by_name(self._names, course.weights)
        return Record(self.phase, course.number, losses, weights)
