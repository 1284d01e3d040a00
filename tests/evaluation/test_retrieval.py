import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.errors import DataError
from clipjax.evaluation import median_rank, recall_at_k
from clipjax.evaluation.retrieval import retrieval_ranks

GOLDEN = ["five_captions_ties", "ragged"]
MEASURES = {
    "retrieval_ranks": retrieval_ranks,
    "recall_at_k": lambda similarity, caption_image: recall_at_k(similarity, caption_image, 1),
    "median_rank": median_rank,
}


def ragged_captions(random, images, extra):
    """One caption per image at least, the rest anywhere, in shuffled order."""
    return random.permutation(np.concatenate([np.arange(images), random.integers(0, images, extra)]))


def sorted_ranks(similarity, caption_image):
    """Rank by full stable sorts: the definition, at its full price."""
    by_image = np.argsort(-similarity, axis=1, kind="stable")
    by_caption = np.argsort(-similarity, axis=0, kind="stable")
    first_caption = [np.flatnonzero(caption_image[order] == i)[0] for i, order in enumerate(by_image)]
    own_image = [np.flatnonzero(by_caption[:, c] == i)[0] for c, i in enumerate(caption_image)]
    return first_caption, own_image


@pytest.mark.usefixtures("every_block_size")
@pytest.mark.parametrize("extra", [0, 23])
def test_ranks_equal_stable_sorts_with_many_ties(random, extra):
    caption_image = ragged_captions(random, 17, extra)
    similarity = random.integers(0, 5, (17, 17 + extra)) / 2.0
    for ranks, want in zip(retrieval_ranks(similarity, caption_image), sorted_ranks(similarity, caption_image)):
        assert_array_equal(ranks, want)


def test_perfect_similarity_finds_everything_at_once(random):
    caption_image = ragged_captions(random, 10, 25)
    similarity = np.eye(10)[:, caption_image]
    assert recall_at_k(similarity, caption_image, 1) == (1.0, 1.0)
    assert median_rank(similarity, caption_image) == (1.0, 1.0)


def test_equal_similarities_rank_in_index_order():
    ranks = retrieval_ranks(np.zeros((3, 4)), np.array([2, 1, 0, 0]))
    assert_array_equal(ranks[0], [2, 1, 0])
    assert_array_equal(ranks[1], [2, 1, 0, 0])


def test_an_image_is_found_by_any_of_its_captions():
    similarity = np.array([[0.1, 0.9, 0.5], [0.0, 0.0, 1.0]])
    image_to_text, _ = recall_at_k(similarity, np.array([0, 0, 1]), 1)
    assert image_to_text == 1.0


def test_one_caption_per_image_is_symmetric_under_transposition(random):
    similarity = random.normal(size=(30, 30))
    pairs = np.arange(30)
    assert recall_at_k(similarity.T, pairs, 3) == recall_at_k(similarity, pairs, 3)[::-1]


def test_captions_may_be_given_in_any_order(random):
    caption_image = ragged_captions(random, 12, 30)
    similarity = random.normal(size=(12, 42))
    order = random.permutation(42)
    assert recall_at_k(similarity[:, order], caption_image[order], 3) == recall_at_k(similarity, caption_image, 3)


def test_recall_grows_with_k_up_to_everything(random):
    caption_image = ragged_captions(random, 12, 30)
    similarity = random.normal(size=(12, 42))
    recalls = np.array([recall_at_k(similarity, caption_image, k) for k in range(1, 43)])
    assert (np.diff(recalls, axis=0) >= 0).all() and (recalls[0] < 1).all() and (recalls[-1] == 1).all()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.int32])
def test_similarities_of_any_precision_rank_alike(random, dtype):
    caption_image = ragged_captions(random, 12, 30)
    similarity = random.integers(-8, 8, (12, 42))
    for ranks, want in zip(
        retrieval_ranks(similarity.astype(dtype), caption_image), sorted_ranks(similarity, caption_image)
    ):
        assert_array_equal(ranks, want)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
@pytest.mark.parametrize(
    ("similarity", "caption_image", "message"),
    [
        (np.zeros((2, 3)), np.array([0, 1]), r"shape \(3,\)"),
        (np.zeros((2, 2)), np.array([0, 2]), "between 0 and 1, got 2"),
        (np.zeros((2, 2)), np.array([0.0, 1.0]), "integers"),
        (np.zeros((3, 2)), np.array([0, 2]), "1 of 3 images have no caption, the first is 1"),
        (np.zeros((0, 0)), np.zeros(0, int), "nothing to measure"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), np.array([0, 1]), "NaN in row 1"),
    ],
)
def test_unusable_input_is_refused(measure, similarity, caption_image, message):
    with pytest.raises(DataError, match=message):
        measure(similarity, caption_image)


def test_k_below_one_is_refused():
    with pytest.raises(DataError, match="at least 1"):
        recall_at_k(np.eye(2), np.arange(2), 0)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(golden_metrics, name):
    g = golden_metrics(f"retrieval_{name}")
    arrays = g["in_similarity"], g["in_caption_image"]
    for ranks, want in zip(retrieval_ranks(*arrays), (g["out_i2t_best_rank"], g["out_t2i_rank"])):
        assert_array_equal(ranks, want)
    assert median_rank(*arrays) == (g["out_i2t_median_rank"], g["out_t2i_median_rank"])
    for k in (1, 5, 10):
        want = [g[f"out_{way}_recall_at_{k}"] for way in ("i2t", "t2i")]
        assert_allclose(recall_at_k(*arrays, k), want, rtol=1e-12)


def test_no_golden_file_is_left_out(shared_data):
    files = (shared_data / "golden" / "metrics").glob("retrieval_*.npz")
    assert {f.stem for f in files} == {f"retrieval_{name}" for name in GOLDEN}
