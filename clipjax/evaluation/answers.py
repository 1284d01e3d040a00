"""VQA accuracy: answers compared as the official evaluation of VQA compares them (Antol et al., arXiv 1505.00468).

Both sides are normalised, always. The official script leaves the human answers as they are where all ten agree; those
that were published are normalised already.
"""

import re
from collections.abc import Sequence

from clipjax.errors import DataError

_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_NUMBER_WORDS)}}
_ARTICLES = frozenset(("a", "an", "the"))
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32  # the official script passes a flag where the count belongs
_COMMA_IN_NUMBER = re.compile(r"\d,\d")

# each word's second spelling; the official table has a few odd ones, which stay
_CONTRACTION_TABLE = """
    aint=ain't arent=aren't cant=can't couldve=could've couldnt=couldn't couldn'tve=couldn't've couldnt've=couldn't've
    didnt=didn't doesnt=doesn't dont=don't hadnt=hadn't hadnt've=hadn't've hadn'tve=hadn't've hasnt=hasn't
    havent=haven't hed=he'd hed've=he'd've he'dve=he'd've hes=he's howd=how'd howll=how'll hows=how's isnt=isn't
    itd=it'd itd've=it'd've it'dve=it'd've itll=it'll let's=let's maam=ma'am mightnt=mightn't mightnt've=mightn't've
    mightn'tve=mightn't've mightve=might've mustnt=mustn't mustve=must've neednt=needn't notve=not've oclock=o'clock
    oughtnt=oughtn't ow's'at='ow's'at 'ows'at='ow's'at 'ow'sat='ow's'at shant=shan't shed've=she'd've she'dve=she'd've
    she's=she's shouldve=should've shouldnt=shouldn't shouldnt've=shouldn't've shouldn'tve=shouldn't've
    somebody'd=somebodyd somebodyd've=somebody'd've somebody'dve=somebody'd've somebodyll=somebody'll
    somebodys=somebody's someoned=someone'd someoned've=someone'd've someone'dve=someone'd've someonell=someone'll
    someones=someone's somethingd=something'd somethingd've=something'd've something'dve=something'd've
    somethingll=something'll thats=that's thered=there'd thered've=there'd've there'dve=there'd've therere=there're
    theres=there's theyd=they'd theyd've=they'd've they'dve=they'd've theyll=they'll theyre=they're theyve=they've
    twas='twas wasnt=wasn't wed've=we'd've we'dve=we'd've weve=we've werent=weren't whatll=what'll whatre=what're
    whats=what's whatve=what've whens=when's whered=where'd wheres=where's whereve=where've whod=who'd whod've=who'd've
    who'dve=who'd've wholl=who'll whos=who's whove=who've whyll=why'll whyre=why're whys=why's wont=won't
    wouldve=would've wouldnt=wouldn't wouldnt've=wouldn't've wouldn'tve=wouldn't've yall=y'all yall'll=y'all'll
    y'allll=y'all'll yall'd've=y'all'd've y'alld've=y'all'd've y'all'dve=y'all'd've youd=you'd youd've=you'd've
    you'dve=you'd've youll=you'll youre=you're youve=you've
"""
_CONTRACTIONS: dict[str, str] = dict(re.findall("(.+?)=(.+)", "\n".join(_CONTRACTION_TABLE.split())))


def normal_answer(answer: str) -> str:
    """Bring an answer into the official form: punctuation, lower case, number words, articles, contractions."""
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    words = _without_punctuation(text).lower().split()
    words = [_NUMBERS.get(word, word) for word in words]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def answer_accuracy(answer: str, human_answers: Sequence[str]) -> float:
    """Compare an answer with those of several people, from 0 to 1: right in full where three others gave it.

    Each person is left out once, and the results averaged: with ten people, an answer that two of them gave is worth
    0.6 and one that three gave 0.9.

    Raises:
      DataError: fewer than two human answers, so that none would be left.
    """
    if isinstance(human_answers, str) or len(human_answers) < 2:
        raise DataError(f"{human_answers!r:.80}: give a list of at least two human answers (officially ten)")
    given = normal_answer(answer)
    same = [normal_answer(human) == given for human in human_answers]
    return sum(min(1.0, (sum(same) - own) / 3) for own in same) / len(same)


def vqa_accuracy(answers: Sequence[str], human_answers: Sequence[Sequence[str]]) -> float:
    """Average `answer_accuracy` over questions.

    Raises:
      DataError: no answers, not as many as questions, or a question with fewer than two human answers.
    """
    if not answers or len(answers) != len(human_answers):
        raise DataError(f"{len(answers)} answers to {len(human_answers)} questions; give each question one")
    return sum(map(answer_accuracy, answers, human_answers)) / len(answers)


def _without_punctuation(text: str) -> str:
    """Remove marks that stand beside a space, or all where a number has a comma; others become spaces."""
    found = text
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        found = found.replace(mark, "" if beside_space or _COMMA_IN_NUMBER.search(text) else " ")
    return _PERIOD.sub("", found, count=_MOST_PERIODS)
