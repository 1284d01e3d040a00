"""Descriptions for the small problem, some of them junk."""

import dataclasses

from clipjax.texts.collected import Texts

DESCRIPTIONS = {
    "red": ("a red thing.", "red like fire.", "it is red."),
    "green": ("a green thing.", "green like grass."),
    "blue": ("a blue thing.", "I am not sure what you are asking."),
}


def described(problem):
    written = {(name,): texts for name, texts in DESCRIPTIONS.items()}
    return dataclasses.replace(problem, texts=Texts({"class_description": written}))
