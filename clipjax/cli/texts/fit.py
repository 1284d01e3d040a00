"""How well the texts of a store fit the images of a source, kind by kind."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipjax.cli.texts.clip import TextClip
    from clipjax.data.source import ImageSource
    from clipjax.texts.faithfulness import Faithfulness
    from clipjax.texts.record import TextRecord


def fit(
    clip: "TextClip", source: "ImageSource", records: "list[TextRecord]"
) -> "list[tuple[list[TextRecord], Faithfulness]]":
    """Measure the texts whose images the source holds.

    Raises:
      DataError: it holds none of the images, or one cannot be decoded.
    """
    from clipjax.cli.console import note
    from clipjax.data.image_names import ImageNames
    from clipjax.errors import DataError
    from clipjax.texts.faithfulness import faithfulness
    from clipjax.texts.record import KINDS

    names = ImageNames(source.ids)
    found = {r.key: [names.place(name) for name in r.images] for r in records if r.images}
    about = {
        key: [place for place in places if place is not None] for key, places in found.items() if None not in places
    }
    if not about:
        raise DataError(f"{source.name}: holds none of the images that the texts are about; choose others")
    if absent := len(found) - len(about):
        note(f"{absent:,} texts are about images that {source.name} does not hold; they were not compared")
    used = sorted({place for places in about.values() for place in places})
    row_of = {place: row for row, place in enumerate(used)}
    images = clip.embed_source(source.select(used))
    measured = []
    for kind in KINDS:
        chosen = [r for r in records if r.kind == kind and r.key in about]
        if chosen:
            texts = clip.embed_texts([r.text for r in chosen])
            subjects = [[row_of[place] for place in about[r.key]] for r in chosen]
            measured.append((chosen, faithfulness(kind, texts, images, subjects)))
    return measured
