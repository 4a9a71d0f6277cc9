"""The experiment `generate`: auxiliary labels that are learned."""
