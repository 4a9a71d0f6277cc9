"""Random matrices with equal sums."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auxilearn.combiners._balanced import balanced

EXAMPLES = settings(deadline=None, max_examples=50, derandomize=True)


@EXAMPLES
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 1000))
def test_rows_and_columns_sum_to_what_they_should(rows, columns, seed):
    matrix = balanced(rows, columns, torch.Generator().manual_seed(seed))
    assert (matrix > 0).all()
    torch.testing.assert_close(matrix.sum(1), torch.ones(rows))
    torch.testing.assert_close(matrix.sum(0), torch.full((columns,), rows / columns))


def test_units_differ():
    matrix = balanced(4, 4)
    assert len({tuple(row.tolist()) for row in matrix}) == 4
