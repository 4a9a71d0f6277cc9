"""The ladder of budgets that methods climb: products, terms, steps or the like."""

LADDER = (1, 2, 3, 5, 10, 20, 30, 50, 70, 100, 150, 200, 300, 400)
COARSE = (1, 2, 3, 5, 10, 20, 50, 100, 200, 400)
THRESHOLD = 0.99
"""The cosine that counts as reached."""
QUICK = (1, 3, 10, 30, 100)
"""Those of ``--quick``."""
