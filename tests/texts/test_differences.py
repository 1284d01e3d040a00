"""Every rule on an answer it drops and on one like it that it keeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipjax.texts import differences
from clipjax.texts.differences import DROPS, MINIMUM_LENGTH, TAILS, clean_difference, cut_tail, tidy

GOOD = "The first image shows a dog on grass, while the second image shows a cat that sleeps on a red sofa."

EXAMPLES = [
    ("starts_with_empty_lines", "\n\n\n" + GOOD, "\n\n" + GOOD),
    ("is_code", "#include <a>\n" + GOOD, "The first image includes a dog. " + GOOD),
    ("is_code", "# 1000 " + GOOD, "1000 people. " + GOOD),
    ("is_code", GOOD + " #define A", GOOD + " It is well defined."),
    ("has_runs_of_zeros", GOOD + " 0.000000000000", GOOD + " 1000000 grains of sand"),
    ("has_escaped_equals", GOOD + r" \=\=\=", GOOD + r" a \= b"),
    ("repeats_itself", GOOD + " t.t.t.t.t.t.t.t.", GOOD + " e.g. a dog, i.e. an animal"),
    ("repeats_itself", GOOD + " aiaiaiaiaiaiaiai", GOOD + " banana"),
    ("repeats_itself", GOOD + "!!!!!!!!", GOOD + "!!!"),
    ("repeats_itself", GOOD + " - - - - - - - - -", GOOD + " - and more"),
    ("has_markup", GOOD + "<br/>", GOOD + " a < b"),
    ("has_markup", GOOD + "</p>", GOOD + " p"),
    ("has_asterisks", "* " + GOOD, "- " + GOOD),
    ("has_quoted_blocks", '"""' + GOOD, '"' + GOOD + '"'),
    ("has_quoted_blocks", "{{{" + GOOD, "{" + GOOD),
    ("is_boilerplate", GOOD + " Step 1: make a landing page.", GOOD + " The plane is landing."),
    ("is_boilerplate", GOOD + " Description: a dog", GOOD + " A description."),
    ("is_not_ascii", GOOD + " caf\u00e9", GOOD + " cafe"),
]


@pytest.mark.parametrize(("rule", "dropped", "kept"), EXAMPLES)
def test_a_rule_drops_one_and_keeps_the_other(rule, dropped, kept):
    assert getattr(differences, rule)(dropped)
    assert not any(other(kept) for other in DROPS)
    assert clean_difference(dropped) == (None, rule)
    assert clean_difference(kept)[1] is None


def test_every_rule_has_an_example():
    assert {rule for rule, _, _ in EXAMPLES} == {rule.__name__ for rule in DROPS}


def test_a_text_is_kept_from_sixty_characters_on():
    assert clean_difference("x y" * 20) == (None, "repeats_itself")
    assert clean_difference(GOOD[: MINIMUM_LENGTH - 1]) == (None, "is_short")
    assert clean_difference(GOOD[:MINIMUM_LENGTH]) == (GOOD[:MINIMUM_LENGTH], None)


@pytest.mark.parametrize("mark", TAILS)
def test_the_tail_is_cut_at_each_mark(mark):
    assert cut_tail(f"before {mark} after") == "before "


def test_the_first_mark_cuts_and_as_published_the_last_rule():
    answer = "One. I hope this helps. Two. Note the third. Q: four"
    assert cut_tail(answer) == "One. "
    assert cut_tail(answer, as_published=True) == "One. I hope this helps. Two. "


def test_marks_and_white_space_are_tidied():
    assert tidy("#1: A: The first\timage\n\nis   large.") == "The first image is large."
    assert tidy(". The first #image") == "The first image"


def test_as_published_lines_are_joined_without_a_space():
    assert tidy("A: one\ntwo    three", as_published=True) == "onetwo  three"


@given(st.text())
def test_what_is_kept_is_clean(raw):
    text, reason = clean_difference(raw)
    assert (text is None) != (reason is None)
    if text is not None:
        assert len(text) >= MINIMUM_LENGTH and text.isascii() and text == " ".join(text.split())
