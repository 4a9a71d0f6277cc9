"""Experiments in which the auxiliary losses are given, and are to be combined."""
