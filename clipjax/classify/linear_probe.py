"""The linear probe: logistic regression on frozen embeddings, with the published search for C.

The protocol of the CLIP paper (Radford et al., arXiv 2103.00020, appendix A.3): L-BFGS, at most
1,000 iterations, the L2 strength found on validation data.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from clipjax.errors import DataError
from clipjax.progress import Progress, silent

MAX_ITERATIONS = 1000
STEPS_PER_DECADE = 8
VALIDATION_SHARE = 0.2

_LARGEST_STEP = 6 * STEPS_PER_DECADE  # the search covers C from 1e-6 to 1e6
_FIRST_STRIDE = 2 * STEPS_PER_DECADE


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe and what it says about the test features.

    `sweep` holds each C tried and its validation accuracy, in the order of the search. `converged`
    speaks of the final fit, which saw `fitted` samples; `unconverged` holds the C of every fit that
    stopped early, that one included.
    """

    weights: Float[np.ndarray, "classes dim"]
    bias: Float[np.ndarray, " classes"]
    classes: Int[np.ndarray, " classes"]
    C: float
    sweep: tuple[tuple[float, float], ...]
    unconverged: tuple[float, ...]
    converged: bool
    fitted: int
    scores: Float[np.ndarray, "samples classes"]

    @property
    def predictions(self) -> Int[np.ndarray, " samples"]:
        """The class of each test sample."""
        return self.classes[np.argmax(self.scores, axis=1)]


def linear_probe(
    train_features: Float[np.ndarray, "train dim"],
    train_labels: Int[np.ndarray, " train"],
    test_features: Float[np.ndarray, "test dim"],
    *,
    validation: tuple[Float[np.ndarray, "validation dim"], Int[np.ndarray, " validation"]] | None = None,
    fit_validation: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> LinearProbe:
    """Fit a linear classifier on embeddings, choose its C on validation data, and score the test set.

    C, the inverse L2 strength, starts on seven values from 1e-6 to 1e6; the interval around the
    best is halved until the steps are an eighth of a decade. Equal accuracies go to the smaller C,
    the stronger regularisation. The result is fitted on training and validation data together, or
    with `fit_validation` false on the training data alone, as a fixed number of shots demands.
    Without `validation`, a fifth of each class of the training data, at least one sample, is held
    back for the search, drawn by `seed`, and fitted in the end in any case. Features are used as
    they are, in float32: normalise them before if that is what the comparison asks for.

    A final fit that stops before it converges is still returned, with a warning.

    Raises:
      DataError: features or labels that do not fit together or are not finite, fewer than two
        classes, a validation class absent from training, or one sample per class and no validation.
    """
    train_features, train_labels = _labelled(train_features, train_labels, "training")
    test_features = _features(test_features, "test")
    if validation is None:
        held_back = _held_back(train_labels, seed)
        validation = train_features[held_back], train_labels[held_back]
        train_features, train_labels = train_features[~held_back], train_labels[~held_back]
        fit_validation = True
    validation_features, validation_labels = _labelled(*validation, "validation")
    for what, features in (("validation", validation_features), ("test", test_features)):
        if features.shape[1] != train_features.shape[1]:
            raise DataError(f"{what} features have {features.shape[1]} columns, training has {train_features.shape[1]}")
    classes = np.unique(train_labels)
    if len(classes) < 2:
        raise DataError(f"a linear probe needs at least 2 classes, got {len(classes)}")
    unseen = np.setdiff1d(validation_labels, classes)
    if unseen.size:
        raise DataError(f"validation holds class {unseen[0]}, which the training data lacks; drop it or add shots")

    accuracy: dict[int, float] = {}
    unconverged = []
    fits = 7 + 2 * 4  # the starting values, then both sides of the peak at each of four halvings
    for step in progress(_search_steps(accuracy), total=fits, label="linear probe", unit="fits"):
        weights, bias, converged = _fit(train_features, train_labels, _strength(step))
        predicted = classes[np.argmax(validation_features @ weights.T + bias, axis=1)]
        accuracy[step] = float(np.mean(predicted == validation_labels))
        if not converged:
            unconverged.append(_strength(step))

    C = _strength(_best_step(accuracy))
    if fit_validation:
        train_features = np.concatenate([train_features, validation_features])
        train_labels = np.concatenate([train_labels, validation_labels])
    weights, bias, converged = _fit(train_features, train_labels, C)
    if not converged:
        unconverged.append(C)
        warnings.warn(
            f"the linear probe at C={C:.3g} did not converge within {MAX_ITERATIONS} iterations",
            stacklevel=2,
        )
    return LinearProbe(
        weights=weights,
        bias=bias,
        classes=classes,
        C=C,
        sweep=tuple((_strength(step), value) for step, value in accuracy.items()),
        unconverged=tuple(unconverged),
        converged=converged,
        fitted=len(train_labels),
        scores=test_features @ weights.T + bias,
    )


def _search_steps(accuracy: dict[int, float]) -> Iterator[int]:
    """Yield the steps to try; `accuracy` is filled by the caller between one step and the next."""
    yield from range(-_LARGEST_STEP, _LARGEST_STEP + 1, _FIRST_STRIDE)
    stride = _FIRST_STRIDE // 2
    while stride:
        peak = _best_step(accuracy)
        yield from (step for step in (peak - stride, peak + stride) if abs(step) <= _LARGEST_STEP)
        stride //= 2


def _best_step(accuracy: dict[int, float]) -> int:
    return max(sorted(accuracy), key=accuracy.__getitem__)


def _strength(step: int) -> float:
    return float(10.0 ** (step / STEPS_PER_DECADE))


def _fit(
    features: Float[np.ndarray, "samples dim"], labels: Int[np.ndarray, " samples"], C: float
) -> tuple[Float[np.ndarray, "classes dim"], Float[np.ndarray, " classes"], bool]:
    """Fit one regression: weights, bias, and whether it converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, max_iter=MAX_ITERATIONS, solver="lbfgs")
    # Not converging is part of the result here; whatever else is said is not ours to keep back, but that one image
    # of each class looks like a regression.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%")
        model.fit(features, labels)
    converged = True
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            converged = False
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    weights, bias = np.asarray(model.coef_, np.float32), np.asarray(model.intercept_, np.float32)
    if len(weights) == 1:  # two classes share one row: half of it each gives the same probabilities
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    return weights, bias, converged


def _held_back(labels: Int[np.ndarray, " samples"], seed: int) -> np.ndarray:
    """Mark the samples held back for validation: a share of each class, never a class's last one."""
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        count = max(1, round(VALIDATION_SHARE * len(members)))
        chosen[members[: min(count, len(members) - 1)]] = True
    if not chosen.any():
        raise DataError("one training sample per class leaves none to choose C on; give validation data")
    return chosen


def _features(features: Float[np.ndarray, "samples dim"], what: str) -> Float[np.ndarray, "samples dim"]:
    features = np.asarray(features)
    if features.ndim != 2 or 0 in features.shape:
        raise DataError(f"{what} features must be a matrix with at least one row, got shape {features.shape}")
    features = features.astype(np.float32)
    if not np.isfinite(features).all():
        row = int(np.argmin(np.isfinite(features).all(axis=1)))
        raise DataError(f"{what} features are not finite in row {row}; check the encoder's outputs")
    return features


def _labelled(
    features: Float[np.ndarray, "samples dim"], labels: Int[np.ndarray, " samples"], what: str
) -> tuple[Float[np.ndarray, "samples dim"], Int[np.ndarray, " samples"]]:
    features, labels = _features(features, what), np.asarray(labels)
    if labels.shape != (len(features),) or labels.dtype.kind not in "iu":
        raise DataError(f"{what} labels must be {len(features)} integers, got {labels.dtype} of shape {labels.shape}")
    return features, labels.astype(np.int64)
