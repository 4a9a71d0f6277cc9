"""The experiment `nonlinear`: when combining losses sample by sample pays."""
