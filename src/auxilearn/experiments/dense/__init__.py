"""The experiment `dense`: losses of every pixel."""
