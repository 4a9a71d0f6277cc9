"""Experiments on real data that ships in packages; they need the extra ``experiments``.

The command ``auxilearn demo`` runs :func:`auxilearn.experiments.demo.run`.
"""
