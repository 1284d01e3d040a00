"""Captions of handwritten digits and of groups of them: what the quickstart's CLIP finds in a short list of phrases.

The writer sees the images' embeddings and the list, and no label; groups are of zero-shot labels.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipjax.classify.problem import Problem
    from clipjax.progress import Progress
    from clipjax.texts.collected import Texts

THINGS = ("digit", "handwritten digit", "number", "numeral")
OTHERS = (
    "white digit", "gray digit", "bold digit", "italic digit", "rotated digit", "large digit", "small digit",
    "letter o", "letter l", "letter s", "letter z", "letter b", "letter q", "circle", "ring", "line", "cross", "arrow",
    "black background", "gray background", "blurry image", "noisy image", "low resolution image", "grayscale image",
)  # fmt: skip


def digit_texts(problem: "Problem", weights: Path, folder: Path, progress: "Progress") -> "Texts":
    """Write the texts into a store in a folder, or read those that a stopped run has written, and return them.

    Args:
      weights: where the problem's CLIP lies.

    Raises:
      OutputError: the store cannot be written.
    """
    from clipjax.cli.texts.clip import TextClip
    from clipjax.cli.texts.writers import retrieval_writer
    from clipjax.methods.pseudo_labels import zero_shot_scores
    from clipjax.texts.collected import read_texts
    from clipjax.texts.generate import generate
    from clipjax.texts.prompts import read_prompts
    from clipjax.texts.store import TextStore
    from clipjax.texts.tasks import caption_questions, group_questions
    from clipjax.training.run import Run

    phrases = [f"{thing} {name}" for thing in THINGS for name in problem.class_names] + list(OTHERS)
    clip = TextClip(str(weights), str(folder / "texts"), progress)
    writer = retrieval_writer(clip, phrases, count=2, commonness=0.0)
    prompts, images = read_prompts(None), problem.unlabelled
    labels = zero_shot_scores(problem, Run(progress=progress)).labels
    questions = caption_questions(images, prompts.ask("image-caption", "default"))
    questions += group_questions(images, prompts.ask("group-caption", "default"), labels)
    # another CLIP or other phrases write into another store
    store = folder / f"texts-{clip.fingerprint[:8]}-{writer.decoding['phrases'][:8]}.jsonl"
    generate(TextStore(store, create=True), writer, questions, progress=progress)
    return read_texts(store)
