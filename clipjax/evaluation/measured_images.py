"""Labelled images that several classifiers are measured on, and embedded once for those that share their towers."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from clipjax.classify.classifier import Classifier
from clipjax.classify.embed import embed_images, score_images
from clipjax.classify.ensemble import Ensemble
from clipjax.classify.problem import Problem
from clipjax.data.source import ImageSource
from clipjax.errors import DataError
from clipjax.evaluation.classification import top_k_accuracy
from clipjax.evaluation.few_shot import restrict_to_classes
from clipjax.progress import Progress, silent

_AT_ONCE = 256  # images whose scores are computed together: heads may need memory for each image and class


class MeasuredImages:
    """Images to measure on, with labels that are positions in some classes.

    Classifiers whose image tower is that of `problem` are given embeddings that are made once, when the first of them
    is measured; others encode the images anew.
    """

    def __init__(self, source: ImageSource, problem: Problem, progress: Progress = silent):
        self.source = source
        self._problem, self._progress = problem, progress
        self._rows: Float[np.ndarray, "images dim"] | None = None

    def accuracy(
        self,
        classifier: Classifier | Ensemble,
        classes: Int[np.ndarray, " classes"] | None = None,
        *,
        columns: Sequence[int] | None = None,
    ) -> float:
        """Measure the share of images whose class is found, in per cent.

        Args:
          classes: measure images of these classes only, which are the classifier's, in this order.
          columns: which of the classifier's classes those of the labels are, where it knows more.

        Raises:
          DataError: there is no image of these classes, or one cannot be decoded.
        """
        kept, labels = np.arange(len(self.source)), self.source.labels
        if classes is not None:
            kept, labels = restrict_to_classes(labels, classes)
        if not len(kept):
            raise DataError(
                f"{self.source.name}: has no image of these classes to measure on; give test images of all classes"
            )
        scores = self._scores(classifier, kept)
        return 100 * top_k_accuracy(scores if columns is None else scores[:, list(columns)], labels, 1)

    def _scores(
        self, classifier: Classifier | Ensemble, kept: Int[np.ndarray, " kept"]
    ) -> Float[np.ndarray, "kept classes"]:
        if not isinstance(classifier, Classifier) or not self._towers_of(classifier):
            scores, positions, _ = score_images(classifier, self.source.select(kept), progress=self._progress)
            return scores[np.argsort(positions)]
        if self._rows is None:
            problem = self._problem
            rows, positions, _ = embed_images(problem.model, problem.params, self.source, progress=self._progress)
            self._rows = rows[np.argsort(positions)]
        found = []
        for first in range(0, len(kept), _AT_ONCE):
            # the last rows are repeated, so that there is one size to compile for
            rows = self._rows[kept[np.minimum(np.arange(first, first + _AT_ONCE), len(kept) - 1)]]
            found.append(np.asarray(classifier.scores_of(rows)))
        return np.concatenate(found)[: len(kept)]

    def _towers_of(self, classifier: Classifier) -> bool:
        same = classifier.model == self._problem.model and classifier.params is self._problem.params
        return same and classifier.visual_prompts is None and classifier.features == "embedding"
