"""Experiments with given losses: their data, and every method of the comparison."""
