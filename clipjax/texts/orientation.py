"""A difference told the other way round: what was said of the first image is said of the second, and back.

Sentences count other things than the two images: a second grade, the first floor, a second of time. Those stay as they
are, and where the words do not tell what is counted, a sentence is not told the other way round at all.
"""

import re

_OTHER = {"first": "second", "1st": "2nd", "former": "latter", "1": "2"}
_OTHER |= {other: word for word, other in _OTHER.items()}

_IMAGE = r"(?:image|picture|photo|photograph|scene|caption|description)"
_NAMED = re.compile(rf"\b{_IMAGE} ([12])\b(?![.,:]?\d)", re.IGNORECASE)
_COUNTED = re.compile(r"(?<![\w'-])(first|second|1st|2nd|former|latter)\b", re.IGNORECASE)

_OTHER_THINGS = re.compile(
    r"(?:-|\s(?:aid|avenue|base|baseman|basemen|birthday|chapter|chance|choice|class|course|cousin|day|degree|edition|"
    r"finger|floor|gear|generation|glance|grade|graders?|half|halves|hand|hands|helping|helpings|home|hour|language|"
    r"layer|level|line|look|name|of all|page|people|person|place|plan|prize|rate|row|season|sight|step|stor(?:ey|y)|"
    r"street|team|thing|things|time|visit|wave|week|wife|wind|world|year)\b)",
    re.IGNORECASE,
)
"""What follows an ordinal that counts something else; a hyphen joins it to such a thing, as in second-hand."""

_ONE_OF_MANY = re.compile(r"\b(?:an?|another|any|each|every|no|one|per|split)\s+$", re.IGNORECASE)
"""What stands before one of many or a measure of time: a second image on the wall, each second."""

_NO_IMAGE = re.compile(r"\b(?:at|from|her|his|its|my|our|that|their|this|your)\s+$", re.IGNORECASE)
"""What stands before something else, unless an image is named: at first, his second."""

_ITS_IMAGE = re.compile(rf"'?\s(?:(?:and|or)\s(?:the\s)?(?:first|second)\s)?(?:{_IMAGE}s?|one)\b", re.IGNORECASE)
_SAYS = re.compile(
    r"(?:\s(?:is|are|was|has|have|had|shows?|showing|depicts?|depicting|features?|featuring|contains?|displays?|"
    r"includes?|looks?|appears?|seems?|presents?|portrays?|captures?|focuses|lacks|does|doesn't|isn't|hasn't)\b"
    r"|'s\b|:)",
    re.IGNORECASE,
)
_COMPARED = (
    r"(?:more|less|fewer|not|being|brighter|darker|lighter|paler|larger|smaller|bigger|busier|smoother|sharper|"
    r"blurrier|warmer|cooler|colder|closer|farther|taller|shorter|younger|older|wider|narrower|higher|lower|richer|"
    r"softer|simpler|plainer|greener|bluer|redder|yellower|greyer|grayer|whiter|blacker)"
)
_LIKE = (
    r"(?:bright|dark|light|pale|large|small|big|busy|smooth|sharp|blurry|warm|cool|cold|close|far|tall|short|young|old|"
    r"wide|narrow|black|grey|gray|white|red|orange|yellow|green|blue|purple|pink|brown|round|square|empty|full)"
)
_STANDS_ALONE = re.compile(
    rf"\s*(?:$|[.,;!?)]|\s(?:while|whereas|but|than|with|without|an?|the|no)\b"
    rf"|\sand\b(?!\s(?:the\s)?(?:first|second|third|fourth|last)\b)|\sof\san?\b|\s{_COMPARED}\b"
    rf"|\s{_LIKE}\s*(?:$|[.,;!?)]|\b(?:and|while|but)\b))",
    re.IGNORECASE,
)
"""What follows `the first` where it means the image: the end of a clause, or what is said of it."""


def swapped(sentence: str) -> str | None:
    """Exchange what stands for the two images: first and second, former and latter, image 1 and image 2.

    "The first image is brighter, the second darker" becomes "The second image is brighter, the first darker": true of
    the same two images in the other order. None where a sentence names neither image, and where it is not plain what is
    counted ("the second dog").
    """
    places = [match.span(1) for match in _NAMED.finditer(sentence)]
    for match in _COUNTED.finditer(sentence):
        meant = _means_an_image(sentence, *match.span())
        if meant is None:
            return None
        if meant:
            places.append(match.span())
    if not places:
        return None
    told, end = [], 0
    for start, stop in sorted(places):
        told += [sentence[end:start], _exchanged(sentence[start:stop])]
        end = stop
    return "".join([*told, sentence[end:]])


def _means_an_image(sentence: str, start: int, end: int) -> bool | None:
    """Say whether an ordinal stands for one of the two images; None where that is not plain."""
    before, after = sentence[:start], sentence[end:]
    if _ONE_OF_MANY.search(before) or _OTHER_THINGS.match(after):
        return False
    if _ITS_IMAGE.match(after):
        return True
    if _NO_IMAGE.search(before):
        return False
    if _SAYS.match(after):
        return True
    the = re.search(r"\bthe\s+$", before, re.IGNORECASE) is not None
    return True if the and _STANDS_ALONE.match(after) else None


def _exchanged(word: str) -> str:
    other = _OTHER[word.lower()]
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
