"""The zero-shot classifier: class weights from texts, nothing trained."""

from collections.abc import Sequence

from clipjax.classify.classifier import Classifier, mean_class_weights
from clipjax.classify.embed import embed_texts
from clipjax.errors import DataError
from clipjax.inputs.tokenizer import Tokenizer
from clipjax.models.clip import CLIP, Params
from clipjax.progress import Progress, silent


def zero_shot_classifier(
    model: CLIP,
    params: Params,
    tokenizer: Tokenizer,
    class_names: Sequence[str],
    texts: Sequence[Sequence[str]],
    *,
    progress: Progress = silent,
) -> Classifier:
    """Build a classifier whose class weights are the normalised means of unit text embeddings.

    Args:
      texts: for each class the texts that stand for it (see `class_texts`).

    Raises:
      DataError: fewer than two classes, or another number of text lists than of classes.
    """
    if len(class_names) < 2:
        raise DataError(f"{len(class_names)} class; a classifier needs at least two")
    if len(texts) != len(class_names) or not all(texts):
        raise DataError(f"{len(class_names)} classes but texts for {sum(map(bool, texts))}; give each class a text")
    flat = [text for own in texts for text in own]
    embeddings = embed_texts(model, params, tokenizer, flat, progress=progress)
    weights = mean_class_weights(embeddings, [len(own) for own in texts])
    provenance = {"method": "zero_shot", "texts_per_class": [len(own) for own in texts]}
    return Classifier(model, params, tuple(class_names), weights, provenance)
