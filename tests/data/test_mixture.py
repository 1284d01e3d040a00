import itertools

import numpy as np
import pytest

from clipjax.data.batches import ArrayBatches
from clipjax.data.mixture import Mixture
from clipjax.data.samplers import Shuffled
from clipjax.errors import DataError


def part(number, rows, width=2):
    """Batches whose rows say which part they are of."""
    arrays = {"x": np.full((40, width), number), "row": np.arange(40)}
    return ArrayBatches(arrays, Shuffled(40, number), rows)


def taken(mixture, count, **where):
    return list(itertools.islice(mixture.batches(**where), count))


def test_parts_alternate_in_groups():
    (batch,) = taken(Mixture((part(0, 4), part(1, 6))), 1)
    assert batch["x"][:, 0].tolist() == [0, 0, 1, 1, 1] * 2
    for number, rows in ((0, 4), (1, 6)):
        (alone,) = itertools.islice(part(number, rows).batches(), 1)
        np.testing.assert_array_equal(batch["row"][batch["x"][:, 0] == number], alone["row"])


@pytest.mark.parametrize("processes", [2, 4])
def test_the_whole_batch_is_the_same_for_any_number_of_processes(processes):
    mixture = Mixture((part(0, 4), part(1, 12), part(2, 8)))
    whole = taken(mixture, 3, first_step=5)
    shares = [taken(mixture, 3, first_step=5, process=p, processes=processes) for p in range(processes)]
    for batch, *pieces in zip(whole, *shares):
        for name, rows in batch.items():
            np.testing.assert_array_equal(rows, np.concatenate([piece[name] for piece in pieces]))


def test_processes_that_do_not_divide_a_part_are_refused():
    with pytest.raises(DataError, match="a batch of 6 cannot be divided among 4 processes"):
        taken(Mixture((part(0, 4), part(1, 6))), 1, processes=4)


def test_parts_of_other_shapes_are_refused():
    with pytest.raises(DataError, match="parts of a mixture hold x of shapes"):
        taken(Mixture((part(0, 4), part(1, 4, width=3))), 1)
