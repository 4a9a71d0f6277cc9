"""Steps see rows by a rule that depends on the seed alone, and goes on where it stood."""

import torch

from auxilearn.training._sampler import Sampler, chunks


def test_a_step_sees_all_labels_or_an_even_share_of_them() -> None:
    few = Sampler(torch.arange(5), torch.arange(5, 30), batch_size=8, seed=0)
    for _ in range(4):
        drawn = few.draw()
        assert drawn[:5].tolist() == list(range(5))
        assert len(drawn) == 13
        assert int(drawn[5:].min()) >= 5
    many = Sampler(torch.arange(12), torch.arange(0), batch_size=8, seed=0)
    epochs = torch.cat([many.draw() for _ in range(3)])  # two epochs
    assert epochs.bincount().tolist() == [2] * 12


def test_who_sees_no_others_draws_the_same_labels() -> None:
    both = Sampler(torch.arange(20), torch.arange(20, 50), batch_size=8, seed=3)
    alone = Sampler(torch.arange(20), torch.arange(0), batch_size=8, seed=3)
    for _ in range(6):
        assert both.draw()[:8].tolist() == alone.draw().tolist()
    other = Sampler(torch.arange(20), torch.arange(0), batch_size=8, seed=4)
    assert other.draw().tolist() != Sampler(torch.arange(20), torch.arange(0), batch_size=8, seed=3).draw().tolist()


def test_a_sampler_goes_on_where_it_stood() -> None:
    first, second = (Sampler(torch.arange(20), torch.arange(20, 50), batch_size=8, seed=3) for _ in range(2))
    for _ in range(4):
        first.draw()
    second.load_state_dict(first.state_dict())
    for _ in range(8):
        assert torch.equal(first.draw(), second.draw())


def test_chunks_hold_every_row_once() -> None:
    parts = chunks(torch.arange(1100), 512)
    assert [len(p) for p in parts] == [512, 512, 76]
    assert torch.cat(parts).tolist() == list(range(1100))
