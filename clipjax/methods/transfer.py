"""What was learnt from some classes, put to other classes that only their names are known of."""

import dataclasses

import jax.numpy as jnp

from clipjax.classify.classifier import Classifier
from clipjax.classify.ensemble import Ensemble
from clipjax.classify.heads import Contexts, ImageContexts, KeyValueCache
from clipjax.classify.problem import Problem
from clipjax.errors import ConfigError
from clipjax.methods.learned_contexts import class_embeddings, context_tokens


def transferred(classifier: Classifier | Ensemble, problem: Problem) -> Classifier:
    """Return a classifier of the problem's classes with what `classifier` learnt of others.

    Learned contexts are put in front of the new names, and heads on embeddings stay; a cache of shots knows none of
    the new classes and falls away. Otherwise the class weights are those of the problem's prompts, as the
    classifier's params read them.

    Raises:
      ConfigError: the classifier's class weights were fitted, and say nothing of other classes.
    """
    if isinstance(classifier, Ensemble) or classifier.bias is not None or classifier.features != "embedding":
        raise ConfigError(
            "this method fits its classes themselves and says nothing of new ones; choose another protocol"
        )
    model, params, head = classifier.model, classifier.params, classifier.head
    weights, names = None, problem.class_names
    if isinstance(head, Contexts):
        contexts = head.arrays["contexts"]
        weights = class_embeddings(model, params, _tokens(problem, len(contexts)), contexts)
    elif isinstance(head, ImageContexts):
        tokens = jnp.asarray(_tokens(problem, len(head.arrays["contexts"])))
        head = dataclasses.replace(head, arrays={**head.arrays, "tokens": tokens})
    elif isinstance(head, KeyValueCache):
        head = None
    if weights is None:
        weights = problem.text_classifier(params).class_weights
    return dataclasses.replace(classifier, class_names=names, class_weights=weights, head=head)


def _tokens(problem: Problem, contexts: int):
    return context_tokens(problem.model, problem.tokenizer, problem.class_names, contexts)
