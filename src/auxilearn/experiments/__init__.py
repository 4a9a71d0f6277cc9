"""Experiments on real data that ships in packages; they need the extra ``experiments``.

``auxilearn list`` shows them, ``auxilearn compare`` runs them, and ``auxilearn demo`` runs
:func:`auxilearn.experiments.demo.run`. An experiment is a constant, your own included:

>>> from auxilearn.experiments import Cell, Experiment, Result
>>> def score(task: float, seed: int) -> Result:
...     return Result(score=task, seconds=0.1, details={})
>>> cell = Cell("a cell", "accuracy, %", task=float, methods={"main only": score, "ours": score})
>>> study = Experiment("study", "A study", "What it shows.", cells=(cell,), ours="ours")
>>> study.cells[0].methods["ours"](study.cells[0].task(3), 3).score
3.0
"""

from auxilearn.experiments.harness._experiment import AuxiliaryTask, Cell, Experiment, Result, Table

__all__ = ["AuxiliaryTask", "Cell", "Experiment", "Result", "Table"]
