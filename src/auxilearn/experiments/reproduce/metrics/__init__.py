"""Metrics of the reproductions, each against its standard definition."""
