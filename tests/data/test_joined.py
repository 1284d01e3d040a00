import pickle

import numpy as np
from numpy.testing import assert_array_equal

from clipjax.data.joined import joined
from clipjax.data.source import memory_source


def sources():
    first = memory_source([b"a", b"bb", b"ccc"], labels=[0, 1, 2], ids=["a", "b", "c"])
    second = memory_source([b"dddd", b"e"], ids=["d", "e"])
    return first, second


def test_images_follow_each_other_with_all_that_is_known():
    first, second = sources()
    both = joined("both", (first.select([2, 0]), second))
    assert [both.read(i) for i in range(4)] == [b"ccc", b"a", b"dddd", b"e"]
    assert list(both.ids) == ["c", "a", "d", "e"]
    assert_array_equal(both.labels, [2, 0, -1, -1])
    assert_array_equal(both.sizes, [3, 1, 4, 1])


def test_a_selection_reads_its_own_images_also_in_another_process():
    both = pickle.loads(pickle.dumps(joined("both", sources()).select(np.array([3, 1]))))
    assert [both.read(i) for i in range(2)] == [b"dddd", b"bb"]


def test_the_fingerprint_is_that_of_the_images_in_this_order():
    first, second = sources()
    assert joined("x", (first, second)).fingerprint == joined("y", (first, second)).fingerprint
    assert joined("x", (first, second)).fingerprint != joined("x", (second, first)).fingerprint
