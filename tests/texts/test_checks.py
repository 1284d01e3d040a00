import pytest

from clipjax.texts import checks
from clipjax.texts.checks import COMMON, SPECIAL, faults
from clipjax.texts.record import TextRecord

FINE = "A brown dog runs over the wet sand of a beach."

EXAMPLES = {
    "refuses": (["I'm sorry, I cannot see the image.", "As an AI, I have no eyes.", "Please provide an image."], FINE),
    "begins_with_a_preamble": (["Sure! A dog.", "Here is a caption: a dog", "Caption: a dog"], "Here a dog sleeps."),
    "is_not_english": (
        [
            "Ein brauner Hund rennt schnell durch nassen Sand und bellt laut",
            "Ein Mann steht in der Mitte einer großen Straße und wartet",
            "un chien sur la plage",
            "一只狗在沙滩上",
        ],
        "café terrace at night in la Rochelle",
    ),
    "breaks_off": (["A dog that runs over the", "a dog, a cat,", "a dog and"], "a dog and a cat"),
    "has_no_word": (["...", "1 2 3", "- -"], "long tail"),
    "repeats_itself": (["a dog dog dog dog dog dog dog dog dog dog dog"], FINE),
    "has_markup": (["a dog<br/>a cat"], "a dog < a cat"),
    "is_boilerplate": (["see https://example.org"], FINE),
    "misses_a_placeholder": (["a photo of a dog.", "a {} and a {}.", "a {}.\na dog."], "a {}.\n\na {} outdoors."),
}


@pytest.mark.parametrize("rule", [*COMMON, *SPECIAL["template"]], ids=lambda rule: rule.__name__)
def test_a_rule_finds_its_fault_and_leaves_the_rest(rule):
    bad, good = EXAMPLES[rule.__name__]
    assert [text for text in bad if not rule(text)] == []
    assert not rule(good) and not rule(FINE + " {}")


def test_every_rule_has_an_example():
    assert set(EXAMPLES) == {rule.__name__ for rules in (COMMON, *SPECIAL.values()) for rule in rules}


def test_the_rules_of_a_kind_are_for_that_kind():
    assert faults(TextRecord("caption", ("a",), "a photo of a dog.")) == ()
    assert faults(TextRecord("template", ("a",), "a photo of a dog.")) == ("misses_a_placeholder",)
    assert checks.faults(TextRecord("caption", ("a",), "Sure, here is the")) == ("begins_with_a_preamble", "breaks_off")
