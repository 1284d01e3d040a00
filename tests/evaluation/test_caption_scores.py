import pytest

from clipjax.errors import DataError
from clipjax.evaluation import bleu, cider_d
from clipjax.evaluation.caption_scores import caption_words

CAPTIONS = [
    "a black dog runs on the grass",
    "two children play in the water",
    "a man in a red shirt climbs a rock wall with a rope while another man watches him",
    "a dog",
    "people",
    "a man a man a man rides a bike",
]
REFERENCES = [
    ["A black dog is running through the grass .", "A dog runs on green grass.", "The black dog is running outside ."],
    [
        "Two kids play in the water .",
        "Two children splash in a pool",
        "children playing in the water at the beach",
        "a boy and a girl in the sea",
    ],
    ["A man in a red shirt climbs a rock wall .", "A climber on a rock face"],
    ["A brown dog jumps over a log .", "a dog leaps over wood", "The dog is jumping ."],
    ["A crowd of people at a concert"],
    [
        "A man rides a bike .",
        "A man's bike isn't red , but he's riding it on a trail !",
        "A cyclist on a mountain-bike rides .",
    ],
]


def test_cider_d_is_pycocoevalcap_s():
    # pycocoevalcap 1.2: Cider().compute_score of these words
    assert cider_d(CAPTIONS, REFERENCES) == pytest.approx(1.7161229679368983, rel=1e-12)


@pytest.mark.parametrize(
    ("order", "found"),
    [(1, 0.7209302325413738), (2, 0.6694369426736991), (3, 0.5944566781542426), (4, 0.5233601483528033)],
)
def test_bleu_is_pycocoevalcap_s(order, found):
    # pycocoevalcap 1.2: Bleu(4).compute_score of these words; it adds 1e-9 to counts here and there
    assert bleu(CAPTIONS, REFERENCES, order) == pytest.approx(found, abs=1e-9)


def test_words_are_those_of_coco_s_evaluation():
    found = caption_words("A man's bike isn't red, but he's riding: it's (very) fast!")
    assert " ".join(found) == "a man 's bike is n't red but he 's riding it 's very fast"
    assert caption_words("Two mountain-bikes -- 3 cars; can't") == ["two", "mountain-bikes", "3", "cars", "ca", "n't"]


def test_caption_equal_to_its_only_reference_is_perfect():
    texts = ["a red bird on a branch", "two men play chess outside", "snow covers the old village"]
    assert cider_d(texts, [[text] for text in texts]) == pytest.approx(10)
    assert bleu(texts, [[text] for text in texts]) == pytest.approx(1)


def test_captions_of_other_images_are_worth_nothing():
    texts = ["red bird on branches", "two men play chess", "snow covers old villages"]
    assert cider_d(texts, [[text] for text in texts[1:] + texts[:1]]) == 0
    assert bleu(texts, [[text] for text in texts[1:] + texts[:1]]) == 0


def test_longer_caption_of_the_same_words_is_worth_less():
    references = [["a dog on grass"], ["two cats sleep inside"]]
    good, bad = (cider_d([text, "two cats sleep inside"], references) for text in ("a dog on grass", "a dog " * 6))
    assert bad < good - 2


def test_order_of_images_changes_nothing():
    assert cider_d(CAPTIONS[::-1], REFERENCES[::-1]) == pytest.approx(cider_d(CAPTIONS, REFERENCES))


@pytest.mark.parametrize("measure", [cider_d, bleu])
def test_images_without_both_are_refused(measure):
    with pytest.raises(DataError, match="2 captions and references for 1 images"):
        measure(["a", "b"], [["a"]])
    with pytest.raises(DataError, match="image 1 has no list of references"):
        measure(["a", "b"], [["a"], []])
    with pytest.raises(DataError, match="image 0 has no list of references"):
        measure(["a", "b"], ["a", "b"])


def test_rarity_needs_several_images():
    with pytest.raises(DataError, match="at least two images"):
        cider_d(["a dog"], [["a dog"]])
