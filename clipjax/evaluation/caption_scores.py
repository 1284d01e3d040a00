"""Captions against several references each: BLEU through sacrebleu, and CIDEr-D.

CIDEr-D is written out here, because there is no package of it to rely on: `pycocoevalcap` has had no release since 2020
and brings 100 MB of Java archives, some under the GPL; `aac-metrics` needs torch. The tests hold numbers that
`pycocoevalcap` computed.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from clipjax.errors import ConfigError, DataError

_ORDERS: tuple[int, ...] = (1, 2, 3, 4)
_SIGMA = 6.0  # of the Gaussian in the difference of lengths

_WORD = re.compile(r"n't\b|'(?:s|re|ve|ll|d|m)\b|(?:(?!n't\b)\w)+(?:[-&/](?:(?!n't\b)\w)+)*", re.ASCII)

Words = tuple[str, ...]


def caption_words(caption: str) -> list[str]:
    """Split a caption as COCO's evaluation does: lower case, "n't" and "'s" as words, no punctuation.

    COCO runs Stanford's tokenizer, a Java program, of which this keeps the rules that matter to captions.
    """
    return _WORD.findall(caption.lower())


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Measure how far captions agree with what several people wrote (Vedantam et al., arXiv 1411.5726, CIDEr-D).

    N-grams of one to four words count by how rarely they occur in the references of other images, so that the result
    depends on the whole set. It is 10 for captions that are their own only reference and share no n-gram with
    others; papers write it times 100 or as it is.

    Raises:
      DataError: as `bleu`, or a single image, for which every n-gram counts nothing.
    """
    _check(captions, references)
    if len(captions) < 2:
        raise DataError("CIDEr-D weighs words by how many images they occur with; pass at least two images")
    counted = [[_grams(caption_words(text)) for text in texts] for texts in references]
    seen = Counter(gram for texts in counted for gram in {gram for counts in texts for gram in counts})
    rarity = {gram: math.log(len(captions)) - math.log(times) for gram, times in seen.items()}
    unseen = math.log(len(captions))
    total = 0.0
    for caption, texts in zip(captions, counted):
        own = _Vector(_grams(caption_words(caption)), rarity, unseen)
        total += sum(own.likeness(_Vector(counts, rarity, unseen)) for counts in texts) / len(texts)
    return 10 * total / len(captions)


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]], order: int = 4) -> float:
    """Measure the n-gram precision of all captions together, up to n-grams of `order` words, from 0 to 1.

    As COCO's evaluation has it: words of `caption_words`, no smoothing, the reference of nearest length.

    Raises:
      DataError: no captions, not one list of references for each, or a caption without any.
      ConfigError: sacrebleu is not installed.
    """
    _check(captions, references)
    try:
        from sacrebleu.metrics import BLEU  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ConfigError("BLEU needs sacrebleu; install clipjax[captioning]") from None
    most = max(len(texts) for texts in references)
    written = [[" ".join(caption_words(text)) for text in texts] for texts in references]
    # sacrebleu takes None where a caption has fewer references, though its annotation does not say so
    streams: Any = [[texts[k] if k < len(texts) else None for texts in written] for k in range(most)]
    # already split into words, which "tokenize" would do again in another way
    metric = BLEU(tokenize="none", smooth_method="none", max_ngram_order=order, force=True)
    return metric.corpus_score([" ".join(caption_words(text)) for text in captions], streams).score / 100


class _Vector:
    """The n-grams of a sentence by their weights."""

    def __init__(self, counts: Counter[Words], rarity: dict[Words, float], unseen: float):
        self.weights = {gram: times * rarity.get(gram, unseen) for gram, times in counts.items()}
        self.norms = {n: math.sqrt(sum(w * w for gram, w in self.weights.items() if len(gram) == n)) for n in _ORDERS}
        self.length = sum(times for gram, times in counts.items() if len(gram) == 2)

    def likeness(self, reference: "_Vector") -> float:
        """Average the clipped cosines of all orders, less where the lengths differ."""
        products = dict.fromkeys(_ORDERS, 0.0)
        for gram, weight in self.weights.items():
            other = reference.weights.get(gram, 0.0)
            products[len(gram)] += min(weight, other) * other
        sizes = {n: self.norms[n] * reference.norms[n] for n in _ORDERS}
        cosines = [products[n] / sizes[n] for n in _ORDERS if sizes[n]]
        return sum(cosines) / len(_ORDERS) * math.exp(-((self.length - reference.length) ** 2) / (2 * _SIGMA**2))


def _grams(words: Sequence[str]) -> Counter[Words]:
    return Counter(tuple(words[i : i + n]) for n in _ORDERS for i in range(len(words) - n + 1))


def _check(captions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not captions or len(captions) != len(references):
        raise DataError(f"{len(captions)} captions and references for {len(references)} images; give each image both")
    for image, texts in enumerate(references):
        if isinstance(texts, str) or not texts:
            raise DataError(f"image {image} has no list of references; give it one or leave it out")
