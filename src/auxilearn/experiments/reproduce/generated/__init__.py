"""Experiments in which a teacher writes the labels of a new auxiliary task."""
