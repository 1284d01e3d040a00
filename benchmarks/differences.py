"""PC-CLIP in the procedural world: what the CLIP inside the package learns of differences that are known exactly.

    python -m benchmarks.differences                 # the table
    python -m benchmarks.differences --lr 1e-4       # with another learning rate

Images differ in the size, colour, place and number of what they show; a sentence names one of these for each pair.
A quarter of the images is held out. The ceiling is a linear probe (ridge regression, its strength chosen on the
held-out images in its favour) that reads the same words off the same embeddings. The control learns from shuffled
sentences.
Zero-shot accuracy is that of part "choose" of the real digits.
"""

import argparse
import dataclasses
import io
import json
import time
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

import clipjax
from benchmarks.timing import machine
from clipjax.classify.classifier import Classifier
from clipjax.classify.embed import embed_images, embed_texts
from clipjax.classify.problem import Problem, make_problem
from clipjax.data.digits import DIGIT_NAMES, handwritten_digits
from clipjax.data.glyph_captions import DIGIT_TEMPLATES, Scene
from clipjax.data.glyphs import draw
from clipjax.data.source import memory_source
from clipjax.evaluation import differences_right, top_k_accuracy
from clipjax.inputs.tokenizer import load_tokenizer
from clipjax.texts.collected import Texts
from clipjax.weights.embedded import EMBEDDED

IMAGES, HELD_OUT = 400, 100
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def attributes(scene: Scene) -> dict[str, str]:
    """Say in words how a scene can differ from others; what cannot be said of it is left out."""
    first, *others = scene.marks
    words = {"colour": first.colour, "number": "several marks" if others else "a single mark"}
    if not others:
        words |= {"size": first.size, "place": first.place}
    return {name: word for name, word in words.items() if word}


@dataclasses.dataclass(frozen=True, eq=False)
class World:
    """Images and their attributes; of each pair the position of both and a word about each."""

    problem: Problem
    known: list[dict[str, str]]
    pairs: Int[np.ndarray, "pairs 2"]
    words: list[tuple[str, str]]

    def sentences(self) -> list[str]:
        """Write the sentence of each pair."""
        return [f"the first is {first}, the second is {second}" for first, second in self.words]


def world(seed: int) -> World:
    """Draw images, and for every pair that differs one sentence about it, in one of both orders."""
    scenes = [draw(position, 1000 + seed) for position in range(IMAGES)]
    encoded = []
    for scene in scenes:
        with io.BytesIO() as file:
            Image.fromarray(scene.image).save(file, "png")
            encoded.append(file.getvalue())
    model, params = clipjax.load(EMBEDDED)
    assert model.config.text is not None
    tokenizer = dataclasses.replace(load_tokenizer(EMBEDDED), context_length=model.config.text.context_length)
    source = memory_source(encoded, name="glyphs")
    problem = make_problem(model, params, tokenizer, DIGIT_NAMES, source, templates=DIGIT_TEMPLATES)
    known, random = [attributes(scene) for scene in scenes], np.random.default_rng(seed)
    pairs, words = [], []
    for i in range(IMAGES):
        for j in range(i):
            differ = [name for name in known[i] if known[j].get(name, known[i][name]) != known[i][name]]
            if differ:
                a, b = (i, j) if random.random() < 0.5 else (j, i)
                name = differ[random.integers(len(differ))]
                pairs.append((a, b))
                words.append((known[a][name], known[b][name]))
    return World(problem, known, np.array(pairs), words)


def adapted(
    drawn: World, train: Int[np.ndarray, " kept"], sentences: list[str], settings: dict[str, Any]
) -> Classifier:
    """Train on some pairs with these sentences."""
    ids = list(drawn.problem.images.ids)
    written: dict[tuple[str, ...], tuple[str, ...]] = {
        (ids[i], ids[j]): (sentences[at],) for at in train.tolist() for i, j in [drawn.pairs[at]]
    }
    problem = dataclasses.replace(drawn.problem, texts=Texts({"difference": written}))
    found = clipjax.adapt("pcclip", problem, **settings)
    assert isinstance(found, Classifier)
    return found


def probe_accuracy(drawn: World, rows: Float[np.ndarray, "images dim"], test: Int[np.ndarray, " kept"]) -> float:
    """Measure the best linear reading of the words off the embeddings of the images that are trained on."""
    vocabulary = sorted({word for words in drawn.known for word in words.values()})
    place = {word: at for at, word in enumerate(vocabulary)}
    targets = np.zeros((IMAGES, len(vocabulary)))
    for row, words in enumerate(drawn.known):
        targets[row, [place[word] for word in words.values()]] = 1
    mean, aside = rows[HELD_OUT:].mean(0), np.arange(IMAGES) < HELD_OUT
    inputs, outputs = rows[~aside] - mean, targets[~aside] - targets[~aside].mean(0)
    best = 0.0
    for strength in STRENGTHS:
        weights = np.linalg.solve(inputs.T @ inputs + strength * np.eye(rows.shape[1]), inputs.T @ outputs)
        directions = np.stack(
            [weights[:, place[a]] - weights[:, place[b]] for a, b in (drawn.words[at] for at in test)]
        )
        best = max(best, float(differences_right(rows, drawn.pairs[test], directions).mean()))
    return best


def zero_shot(problem: Problem, params: Any) -> float:
    """Measure the class prompts on real digits."""
    digits = handwritten_digits("choose")
    rows, _, _ = embed_images(problem.model, params, digits)
    return top_k_accuracy(np.asarray(problem.text_classifier(params).scores_of(rows)), digits.labels, 1)


def measured(seed: int, pairs: int, settings: dict[str, Any]) -> dict[str, float]:
    """Train once on true and once on shuffled sentences, and measure both on held-out images."""
    drawn = world(seed)
    problem, sentences = drawn.problem, drawn.sentences()
    inside = np.sum(drawn.pairs < HELD_OUT, axis=1)
    random = np.random.default_rng((seed, 1))
    train = random.permutation(np.flatnonzero(inside == 0))[:pairs]
    test = np.flatnonzero(inside == 2)
    rows, _, _ = embed_images(problem.model, problem.params, problem.images)
    shuffled = list(np.array(sentences)[random.permutation(len(sentences))])
    true, control = (adapted(drawn, train, texts, settings).params for texts in (sentences, shuffled))

    def accuracy(params) -> float:
        told = [sentences[at] for at in test]
        texts = embed_texts(problem.model, params, problem.tokenizer, told)
        return float(differences_right(rows, drawn.pairs[test], texts).mean())

    return {
        "before": accuracy(problem.params),
        "after": accuracy(true),
        "control": accuracy(control),
        "linear probe": probe_accuracy(drawn, rows / np.linalg.norm(rows, axis=1, keepdims=True), test),
        "zero-shot before": zero_shot(problem, problem.params),
        "zero-shot after": zero_shot(problem, true),
    }


def main() -> None:
    """Print a table of all seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--temperature", type=float, default=0.1)
    parser.add_argument("--epochs", type=float, default=3.0)
    options = parser.parse_args()
    start = time.perf_counter()
    found = []
    for seed in options.seeds:
        settings = {
            "temperature": options.temperature,
            "epochs": options.epochs,
            "batch_size": options.batch_size,
            "optimizer": {"lr": options.lr, "schedule": "cosine"},
            "seed": seed,
        }
        found.append(measured(seed, options.pairs, settings))
        print(json.dumps({"seed": seed, **found[-1]}), flush=True)
    for name in found[0]:
        values = [100 * one[name] for one in found]
        print(f"| {name} | {np.mean(values):.1f} ± {np.std(values):.1f} |")
    print(json.dumps({**machine(), "seconds": round(time.perf_counter() - start)}))


if __name__ == "__main__":
    main()
