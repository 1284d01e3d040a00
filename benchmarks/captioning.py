"""Captions of photographs and answers about drawn scenes: the map of visual tokens with AAPE's token and without.

    python -m benchmarks.captioning --study captions --work study
    python -m benchmarks.captioning --study questions --work study

A small language model is trained first, on captions that say nothing about the test images, and measured against word
frequencies. Then each variant trains its map on the same images for as many steps, with each seed, and writes about
the test images: captions with the language model frozen, measured by CIDEr-D and BLEU; answers with the language model
tuned along, measured by the VQA accuracy against guessing each question's most frequent answer. Variants:

  map        CLIP's visual tokens
  aape       the same and one token made of h(x), AAPE's prompt embedding, which learned from the mean of an image's
             captions, the simplest of the paper's aggregations, and from telling its captions from others'
  tuned      as "aape", and h learns along
  embedding  the same and one token made of CLIP's own embedding of the image, which h starts from
  blind      every image's tokens are the mean of all: what can be said without looking

Each result is a line of WORK/STUDY/results.jsonl; what is there is not run again, and a stopped command goes on when it
is repeated. `--tiny` is for trying the program out. Needs `clipjax[captioning]`.
"""

import argparse
import functools
import json
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.caption_worlds import SIZES, Sizes, World, drawn_scenes, photographs
from benchmarks.study_results import note, noted
from benchmarks.timing import machine
from clipjax.classify.embed import embed_texts
from clipjax.data.glyph_questions import Question
from clipjax.data.language_rows import LanguageRows, answer_rows, caption_rows, document_rows, question_rows
from clipjax.evaluation import answer_accuracy, bleu, cider_d
from clipjax.inputs.tokenizer import Tokenizer
from clipjax.inputs.tokenizer_trainer import train_tokenizer
from clipjax.inputs.tokenizer_writer import write_tokenizer
from clipjax.methods.aape import Aggregation, generate
from clipjax.methods.aape.retrieval import QueryConfig, learn_queries
from clipjax.methods.cached_shots import padded
from clipjax.methods.captioning import (
    Captioner,
    Config,
    VisualFeatures,
    fit_captioner,
    language,
    perplexity,
    train_language_model,
    unigram_perplexity,
    visual_features,
    write_texts,
)
from clipjax.models.beam_search import beam_search
from clipjax.models.causal_lm import CausalLM
from clipjax.models.decoding import greedy
from clipjax.models.shapes import Params
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.weights.language_model import save_language_model

VARIANTS = ("map", "aape", "tuned", "embedding", "blind")
SEEDS = (1, 2, 3)
BEAMS = 3
LANGUAGE_OPTIMIZER = Optimizer(lr=2e-3, warmup=100, weight_decay=0.1, b2=0.98, clip_norm=1.0)
MAP_OPTIMIZER = Optimizer(lr=2e-3, warmup=50, clip_norm=1.0)


def main() -> None:
    args = _parser().parse_args()
    study = Study(args.study, args.work / args.study, SIZES[args.study + ("-tiny" if args.tiny else "")])
    for seed in args.seeds:
        for variant in args.variants:
            study.result(variant, seed)
    print(table(study.results(), args.variants))
    print(json.dumps(machine()))


class Study:
    """Everything that the variants share, made once and kept in a folder."""

    def __init__(self, name: str, folder: Path, sizes: Sizes):
        self.name, self.folder, self.sizes = name, folder, sizes
        folder.mkdir(parents=True, exist_ok=True)
        self.run = Run(folder)
        self.world: World = photographs(sizes) if name == "captions" else drawn_scenes(sizes)
        self.tokenizer: Tokenizer = train_tokenizer(self._all_texts(), sizes.vocabulary, sizes.document)
        world = self.world
        self.train = visual_features(world.model, world.params, world.train, self.run)
        self.test = visual_features(world.model, world.params, world.test, self.run)
        self.model = CausalLM(sizes.language(self.tokenizer, self.train.tokens.shape[1]))
        self.language = self._language()

    def result(self, variant: str, seed: int) -> dict[str, Any]:
        """Train a variant and measure it, or read what was measured."""
        known = self._known(variant=variant, seed=seed)
        if known is not None:
            return known
        start = time.monotonic()
        h = self._generator(seed) if variant in ("aape", "tuned") else None
        train, test = (self._images(variant, h, features) for features in (self.train, self.test))
        captioner = Captioner(self.model, generate if variant == "tuned" else None)
        inside = h if variant == "tuned" else None
        params = captioner.init(jax.random.key(seed), self.language, train, generator=inside)
        tuned = [*(["generator"] if variant == "tuned" else []), *([] if self.name == "captions" else ["language"])]
        config = Config(
            steps=self.sizes.map_steps,
            batch_size=min(64, len(self.world.train)),
            optimizer=MAP_OPTIMIZER,
            tuned=tuple(tuned),  # pyright: ignore[reportArgumentType]
            seed=seed,
        )
        run = Run(self.folder / "runs" / f"{variant}-{seed}")
        params = fit_captioner(captioner, params, train, self._rows(), config, run)
        measure = self._captions if self.name == "captions" else self._answers
        found = measure(captioner, params, test)
        return self._note(variant=variant, seed=seed, **found, seconds=round(time.monotonic() - start, 1))

    def results(self) -> list[dict[str, Any]]:
        """Read what was measured with these sizes."""
        return [found for found in noted(self.folder / "results.jsonl") if found["sizes"] == repr(self.sizes)]

    def _all_texts(self) -> list[str]:
        texts = [text for one in (*self.world.texts, *self.world.read) for text in one]
        return texts + [word for q in self.world.train_questions for word in (f"q: {q.text} a:", q.answer)]

    def _language(self) -> Params:
        """Train the language model on captions, and measure it on captions of the test images."""
        world, sizes = self.world, self.sizes
        documents = document_rows([*world.texts, *world.read], self.tokenizer, sizes.document)
        config = language.Config(
            steps=sizes.language_steps, batch_size=min(32, len(documents.tokens)), optimizer=LANGUAGE_OPTIMIZER
        )
        params = train_language_model(self.model, documents, config, self.run)
        if self._known(variant="language") is None:
            beside = lambda folder: write_tokenizer(folder, folder, self.tokenizer)
            save_language_model(self.folder / "language", self.model, params, overwrite=True, extra=beside)
            read, unread = (
                _flat(caption_rows(texts, self.tokenizer, sizes.document))
                for texts in ([*world.texts, *world.read], world.unread)
            )
            self._note(
                variant="language",
                captions=sum(map(len, (*world.texts, *world.read))),
                held_out=len(unread.tokens),
                perplexity=round(perplexity(self.model, params, *unread), 2),
                unigram_perplexity=round(unigram_perplexity(read, unread, self.tokenizer.vocab_size), 2),
            )
        return params

    def _generator(self, seed: int) -> Params:
        world = self.world

        def embedded() -> dict[str, np.ndarray]:
            flat = [text for texts in world.texts for text in texts]
            rows = embed_texts(world.model, world.params, world.tokenizer, flat)
            return {"rows": rows / np.linalg.norm(rows, axis=1, keepdims=True)}

        texts = self.run.once("captions", embedded, depends=(world.train.fingerprint, len(world.texts)))["rows"]
        images = self.train.embeddings
        batch_size = min(256, len(images))
        config = QueryConfig(
            aggregation=Aggregation(kind="mean"),
            temperature=float(np.exp(-world.params["logit_scale"])),
            epochs=self.sizes.generator_steps * batch_size / len(images),
            batch_size=batch_size,
            seed=seed,
        )
        run = Run(self.folder / "runs" / f"generator-{seed}")
        return learn_queries(images, padded(texts, [len(one) for one in world.texts]), config, run)

    def _images(self, variant: str, h: Params | None, features: VisualFeatures) -> dict[str, np.ndarray]:
        if variant == "blind":
            mean = self.train.tokens.mean(axis=0, keepdims=True)
            return {"visual": np.repeat(mean, len(features.tokens), axis=0)}
        images = {"visual": features.tokens}
        if variant in ("embedding", "tuned"):
            images["prompt"] = features.embeddings
        if variant == "aape":
            images["prompt"] = np.asarray(generate(h, features.embeddings))
        return images

    def _rows(self) -> LanguageRows:
        world, length = self.world, self.sizes.text
        if self.name == "captions":
            return caption_rows(world.texts, self.tokenizer, length)
        questions = world.train_questions
        rows = answer_rows([q.text for q in questions], [q.answer for q in questions], self.tokenizer, length)
        return LanguageRows(rows.tokens[:, None], rows.learned[:, None])

    def _captions(self, captioner: Captioner, params: Params, images: dict[str, np.ndarray]) -> dict[str, Any]:
        references = self.world.test_texts
        found: dict[str, Any] = {}
        longest = self.sizes.longest
        for name, decode in (
            ("greedy", functools.partial(greedy, max_tokens=longest)),
            ("beams", functools.partial(beam_search, beams=BEAMS, max_tokens=longest)),
        ):
            texts = write_texts(captioner, params, images, self.tokenizer, decode)
            scores = {"cider_d": cider_d(texts, references)}
            scores |= {f"bleu_{order}": bleu(texts, references, order) for order in (1, 4)}
            found[name] = {measure: round(score, 4) for measure, score in scores.items()}
            found[name] |= {"different": len(set(texts)), "examples": texts[:4]}
        return found

    def _answers(self, captioner: Captioner, params: Params, images: dict[str, np.ndarray]) -> dict[str, Any]:
        questions = self.world.test_questions
        asked = question_rows([question.text for question in questions], self.tokenizer, self.sizes.text)
        decode = functools.partial(greedy, max_tokens=self.sizes.longest)
        answers = write_texts(
            captioner, params, images, self.tokenizer, decode, questions=asked.tokens, lengths=asked.lengths
        )
        prior = prior_answers(self.world.train_questions, questions)
        return {"accuracy": by_kind(questions, answers), "prior": by_kind(questions, prior)}

    def _known(self, **what: Any) -> dict[str, Any] | None:
        same = lambda found: all(found.get(name) == value for name, value in what.items())
        return next(filter(same, self.results()), None)

    def _note(self, **found: Any) -> dict[str, Any]:
        found["sizes"] = repr(self.sizes)
        note(self.folder / "results.jsonl", found)
        return found


def prior_answers(train: Sequence[Question], test: Sequence[Question]) -> list[str]:
    """Give each question the answer that was the most frequent one to the same words."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question in train:
        counts[question.text][question.answer] += 1
    return [counts[question.text].most_common(1)[0][0] if counts[question.text] else "" for question in test]


def by_kind(questions: Sequence[Question], answers: Sequence[str]) -> dict[str, float]:
    """Measure the VQA accuracy in percent, of all questions and of each kind; the truth stands for ten people."""
    right: dict[str, list[float]] = defaultdict(list)
    for question, answer in zip(questions, answers, strict=True):
        accuracy = 100 * answer_accuracy(answer, [question.answer] * 10)
        for kind in ("all", question.kind):
            right[kind].append(accuracy)
    return {kind: round(statistics.mean(values), 2) for kind, values in right.items()}


def table(results: Sequence[dict[str, Any]], variants: Sequence[str]) -> str:
    """Write means and standard deviations over seeds as Markdown."""
    rows = {variant: [_numbers(found) for found in results if found["variant"] == variant] for variant in variants}
    columns = list(dict.fromkeys(name for row in rows.values() for numbers in row for name in numbers))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for variant, row in rows.items():
        cells = [_cell([numbers[name] for numbers in row if name in numbers]) for name in columns]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    if len(values) < 2:
        return "".join(f"{value:.3f}" for value in values)
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def _numbers(found: dict[str, Any]) -> dict[str, float]:
    groups = {name: part for name, part in found.items() if isinstance(part, dict)}
    return {
        f"{name} {measure}": value
        for name, part in groups.items()
        for measure, value in part.items()
        if isinstance(value, int | float)
    }


def _flat(rows: LanguageRows) -> LanguageRows:
    return LanguageRows(*(array.reshape(-1, array.shape[-1]) for array in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="captions", choices=("captions", "questions"))
    parser.add_argument("--work", type=Path, default=Path("study"), metavar="DIR")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--tiny", action="store_true", help="a few steps on a few images, to try it out")
    return parser


if __name__ == "__main__":
    main()
