import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.classify.embed import embed_texts
from clipjax.errors import ConfigError
from clipjax.methods import learned_contexts
from clipjax.methods.learned_contexts import class_embeddings, context_tokens, contexts_from_words, random_contexts
from clipjax.models.clip import unit
from clipjax.training.microbatch import in_microbatches

NAMES = ("red", "dark_green thing", "blue")


def test_the_words_own_embeddings_give_the_texts_own_embeddings(problem):
    model, params, tokenizer = problem.model, problem.params, problem.tokenizer
    contexts = contexts_from_words(model, params, tokenizer, "a photo of a")
    tokens = context_tokens(model, tokenizer, NAMES, len(contexts))
    texts = [f"a photo of a {name}." for name in ("red", "dark green thing", "blue")]
    wanted = unit(jnp.asarray(embed_texts(model, params, tokenizer, texts)))
    assert_allclose(class_embeddings(model, params, tokens, contexts), wanted, atol=1e-5)


def test_rows_are_no_longer_than_the_longest_class_needs(problem):
    tokens = context_tokens(problem.model, problem.tokenizer, NAMES, 4)
    longest = len(problem.tokenizer.encode("dark green thing."))
    assert tokens.shape == (3, min(16, 1 + 4 + longest + 1 + 1))
    assert_array_equal(tokens[:, 0], problem.tokenizer.start_id)
    assert_array_equal((tokens == problem.tokenizer.end_id).sum(1), 1)


def test_kinds_are_embedded_as_each_alone_and_in_any_number_of_parts(problem, getkey):
    model, params = problem.model, problem.params
    tokens = context_tokens(model, problem.tokenizer, NAMES, 4)
    contexts = 10 * random_contexts(model, getkey(), 2, 4)
    together = class_embeddings(model, params, tokens, contexts)
    assert not np.allclose(together[0], together[1], atol=1e-3)
    for kind in range(2):
        assert_allclose(class_embeddings(model, params, tokens, contexts[kind]), together[kind], atol=1e-6)
    loss = lambda contexts, parts: jnp.sum(
        class_embeddings(model, params, tokens, contexts, parts=parts) * jnp.arange(16)
    )
    whole = jax.grad(loss)(contexts, 1)
    assert_allclose(class_embeddings(model, params, tokens, contexts, parts=2), together, atol=1e-6)
    assert_allclose(jax.grad(loss)(contexts, 4), whole, rtol=1e-4, atol=1e-4)


def test_many_texts_are_read_in_parts_without_being_told(problem, getkey, monkeypatch):
    model, params = problem.model, problem.params
    tokens = context_tokens(model, problem.tokenizer, NAMES, 4)
    contexts = random_contexts(model, getkey(), 2, 4)
    whole = class_embeddings(model, params, tokens, contexts)
    seen = []

    def watched(encode, several, rows, parts):
        seen.append(parts)
        return in_microbatches(encode, several, rows, parts)

    monkeypatch.setattr(learned_contexts, "in_microbatches", watched)
    monkeypatch.setattr(learned_contexts, "TEXTS_AT_ONCE", 2)
    assert_allclose(class_embeddings(model, params, tokens, contexts), whole, atol=1e-6)
    assert seen == [3]


def test_the_gradient_of_contexts_is_that_of_finite_differences(problem, getkey):
    model, params = problem.model, problem.params
    tokens = context_tokens(model, problem.tokenizer, NAMES, 2)
    contexts = 10 * random_contexts(model, getkey(), 2)
    target = jnp.asarray(np.random.default_rng(0).normal(size=(3, 16)), jnp.float32)
    loss = lambda contexts: jnp.sum(class_embeddings(model, params, tokens, contexts) * target)
    direction = jnp.asarray(np.random.default_rng(1).normal(size=contexts.shape), jnp.float32)
    step = 1e-2
    slope = (loss(contexts + step * direction) - loss(contexts - step * direction)) / (2 * step)
    assert_allclose(jnp.sum(jax.grad(loss)(contexts) * direction), slope, rtol=2e-2)


def test_texts_that_do_not_fit_are_refused_with_the_number_that_does(problem):
    with pytest.raises(ConfigError, match=r"'dark_green thing' need 18 tokens.*have 16; use at most 10 contexts"):
        context_tokens(problem.model, problem.tokenizer, NAMES, 12)
    context_tokens(problem.model, problem.tokenizer, NAMES, 10)
    with pytest.raises(ConfigError, match=r"have 16; use a shorter name$"):
        context_tokens(problem.model, problem.tokenizer, ["one " * 16], 1)


def test_a_vocabulary_that_pads_with_the_end_token_is_read_alike(problem):
    ends = dataclasses.replace(problem.tokenizer, pad_id=problem.tokenizer.end_id)
    contexts = random_contexts(problem.model, jax.random.key(0), 4)
    found = [
        class_embeddings(problem.model, problem.params, context_tokens(problem.model, tokenizer, NAMES, 4), contexts)
        for tokenizer in (problem.tokenizer, ends)
    ]
    # the rows are of 11 and 10 tokens, and two lengths are two programs, which some processors round differently
    assert_allclose(found[0], found[1], rtol=0, atol=1e-6)


def test_no_words_are_refused(problem):
    with pytest.raises(ConfigError, match="have no token"):
        contexts_from_words(problem.model, problem.params, problem.tokenizer, " ")
