"""PC-CLIP on photographs: rankings by what can be measured in them, before and after, and what zero-shot loses.

    python -m benchmarks.differences_photos --work runs/photos          # the tables; repeat to go on after a stop

1,000 photographs of Flickr8k that the testbed's CLIP has never seen; of each seed 300 are held out. The grammar writer
compares pairs of the others in one measured aspect each: light, saturation, detail (edges), or how much there is of a
colour. The held-out photographs are ranked by one sentence for each aspect, all against all, and by a sentence in other
words that was never trained on; Kendall's tau compares the ranking with the measured aspect. Four classes, lighter or
darker and paler or more vivid than most, are told by the rankings alone. The ceiling is a ridge
regression from the embeddings of the same training photographs, whose strength is chosen on a fifth of them. The
control learns from shuffled sentences. Rate, temperature, epochs and batch are those of the procedural world
(benchmarks/differences.py): nothing was searched for here.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

import clipjax
from benchmarks.needs import DATA, require
from benchmarks.timing import machine
from clipjax.classify.class_texts import extended_texts
from clipjax.classify.classifier import Classifier
from clipjax.classify.embed import embed_images, embed_texts
from clipjax.classify.problem import Problem, make_problem
from clipjax.classify.zero_shot import zero_shot_classifier
from clipjax.data.classes import read_descriptions
from clipjax.data.embedding_cache import EmbeddingCache
from clipjax.data.opening import open_source
from clipjax.data.source import ImageSource
from clipjax.evaluation import (
    attribute_classifier_scores,
    attribute_ranks,
    difference_scores,
    differences_right,
    kendall_tau,
    top_k_accuracy,
)
from clipjax.methods.interpolation import interpolated
from clipjax.methods.pcclip.step import text_side
from clipjax.outputs import new_file
from clipjax.texts.collected import Texts
from clipjax.texts.compared import amount, comparison
from clipjax.texts.groups import draw_pairs
from clipjax.texts.measured import Properties, measure
from clipjax.texts.question import Question
from clipjax.texts.writers.grammar import GrammarWriter
from clipjax.weights.fingerprint import fingerprint

ASPECTS = ("light", "saturation", "detail", "green", "blue", "white", "brown")
OTHER_WORDS = {
    "light": "a light photo, compared with a gloomy one",
    "saturation": "a colourful photo, compared with a washed out one",
    "detail": "a busy photo, compared with a plain one",
}
HELD_OUT = 300
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
PLAIN = "This is a photo of a {}"
SETS = {
    "CIFAR-10": ("cifar10.tar", {"testbed": "heldout-test"}, "susx/CuPL_prompts_cifar10.json"),
    "EuroSAT": ("eurosat.tar", {"testbed": "target-test"}, "susx/CuPL_prompts_eurosat.json"),
    "Caltech101": ("caltech101.tar", {"split": "test"}, "susx/CuPL_prompts_caltech101.json"),
}
CALLED = {"automobile": "car"}
"""What the published descriptions call a class."""


class Photos:
    """The photographs with their measurements and embeddings, and the sets that zero-shot is measured on."""

    def __init__(self, work: Path, *, images: int | None = None, sets: tuple[str, ...] = tuple(SETS)):
        require("testbed")
        weights = DATA / "testbed"
        self.model, self.params = clipjax.load(weights)
        assert self.model.config.text is not None
        context = self.model.config.text.context_length
        self.tokenizer = dataclasses.replace(clipjax.load_tokenizer(weights), context_length=context)
        self._cache = EmbeddingCache(work / "embeddings")
        source = open_source(DATA / "data/images/flickr8k.tar", where={"testbed": "heldout-test"})
        self.source = source if images is None else source.select(np.arange(images))
        self.measured: list[Properties] = [measure(self.source.image(i)) for i in range(len(self.source))]
        self.rows = self.embedded(self.source)
        self.sets = {name: self._opened(*SETS[name]) for name in sets}

    def embedded(self, source: ImageSource) -> Float[np.ndarray, "images dim"]:
        """Embed images once for all seeds, of unit length."""
        key = {"weights": fingerprint(self.params), "images": source.fingerprint}
        rows = self._cache.get_or_compute(key, lambda: embed_images(self.model, self.params, source)[0])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def _opened(self, tar: str, where: dict[str, str], descriptions: str):
        source = open_source(DATA / "data/images" / tar, where=where)
        names = [CALLED.get(name, name).replace("_", " ") for _, name in sorted(source.label_names.items())]
        described = read_descriptions(DATA / "data/texts/descriptions" / descriptions, names)
        prompts = {"plain": [[PLAIN.replace("{}", name)] for name in names]}
        prompts["extended"] = extended_texts(names, PLAIN, described)
        return names, prompts, self.embedded(source), source.labels

    def texts(self, params: Any, sentences: list[str]) -> Float[np.ndarray, "texts dim"]:
        """Embed sentences."""
        return embed_texts(self.model, params, self.tokenizer, sentences)

    def zero_shot(self, params: Any) -> dict[str, float]:
        """Measure every set with both kinds of prompts."""
        found = {}
        for name, (names, prompts, rows, labels) in self.sets.items():
            for kind, texts in prompts.items():
                classifier = zero_shot_classifier(self.model, params, self.tokenizer, names, texts)
                found[f"{name}, {kind}"] = top_k_accuracy(np.asarray(classifier.scores_of(rows)), labels, 1)
        return found

    def rankings(self, params: Any, held: Int[np.ndarray, " held"]) -> dict[str, float]:
        """Compare rankings of held-out photographs with what is measured in them."""
        found = {}
        for kind, sentences in (("", {a: comparison(a) for a in ASPECTS}), (", other words", OTHER_WORDS)):
            rows = self.texts(params, list(sentences.values()))
            for aspect, sentence in zip(sentences, rows):
                scores = difference_scores(self.rows[held], sentence)
                found[aspect + kind] = kendall_tau(scores, self.truth(aspect)[held])
        return found

    def classes_told(self, params: Any, train: Int[np.ndarray, " train"], held: Int[np.ndarray, " held"]) -> float:
        """Tell four classes by attributes alone: more or less light, and more or less saturated, than most."""
        pair = ("light", "saturation")
        has = [self.truth(aspect)[held] > np.median(self.truth(aspect)[train]) for aspect in pair]
        table = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        ranks = attribute_ranks(self.rows[held], self.texts(params, [comparison(aspect) for aspect in pair]))
        found = attribute_classifier_scores(ranks, table).argmax(1)
        return float(np.mean(found == 2 * has[0] + has[1]))

    def truth(self, aspect: str) -> Float[np.ndarray, " images"]:
        """Return the measured aspect of every photograph."""
        return np.array([amount(one, aspect) for one in self.measured])

    def ceiling(self, train: Int[np.ndarray, " train"], held: Int[np.ndarray, " held"]) -> dict[str, float]:
        """Rank by a ridge regression on the training photographs."""
        tune, fit = train[: len(train) // 5], train[len(train) // 5 :]
        found = {}
        for aspect in ASPECTS:
            truth = self.truth(aspect)
            fits = {s: _ridge(self.rows[fit], truth[fit], s) for s in STRENGTHS}
            best = max(fits, key=lambda s: kendall_tau(self.rows[tune] @ fits[s], truth[tune]))
            found[aspect] = kendall_tau(self.rows[held] @ _ridge(self.rows[train], truth[train], best), truth[held])
        return found


def _ridge(rows: Float[np.ndarray, "rows dim"], truth: Float[np.ndarray, " rows"], strength: float):
    inside = rows - rows.mean(0)
    return np.linalg.solve(inside.T @ inside + strength * np.eye(rows.shape[1]), inside.T @ (truth - truth.mean()))


def written(photos: Photos, chosen: Int[np.ndarray, " chosen"], count: int, seed: int):
    """Have the grammar writer compare pairs among some photographs; return the pairs and the sentences."""
    pairs = chosen[draw_pairs(len(chosen), count, seed=seed)]
    ids, image = photos.source.ids, photos.source.image
    asked = [
        Question("difference", (ids[i], ids[j]), "", pictures=lambda i=i, j=j: [image(i), image(j)])
        for i, j in pairs.tolist()
    ]
    texts = [answer.text for answer in GrammarWriter(aspects=ASPECTS).answers(asked)]
    # of photographs that are alike in all aspects there is nothing to say
    told = [place for place, text in enumerate(texts) if text]
    return pairs[told], [texts[place] for place in told]


def adapted(photos: Photos, train, pairs, sentences: list[str], settings: dict[str, Any], folder: Path) -> Any:
    """Train on these sentences; return the params."""
    ids = photos.source.ids
    found: dict[tuple[str, ...], tuple[str, ...]] = {
        (ids[i], ids[j]): (text,) for (i, j), text in zip(pairs.tolist(), sentences)
    }
    problem: Problem = make_problem(
        photos.model, photos.params, photos.tokenizer, ("one", "another"), photos.source.select(train),
        texts=Texts({"difference": found}),
    )  # fmt: skip
    classifier = clipjax.adapt("pcclip", problem, folder=folder, **settings)
    assert isinstance(classifier, Classifier)
    return classifier.params


def measured(photos: Photos, seed: int, pairs: int, settings: dict[str, Any], work: Path, held_out: int) -> dict:
    """Train once on true and once on shuffled sentences, and measure both on held-out photographs."""
    random = np.random.default_rng((seed, 3))
    order = random.permutation(len(photos.source))
    held, train = np.sort(order[:held_out]), np.sort(order[held_out:])
    trained_on, sentences = written(photos, train, pairs, seed)
    asked, told = written(photos, held, pairs, seed)
    shuffled = [sentences[at] for at in random.permutation(len(sentences))]
    true, control = (
        adapted(photos, train, trained_on, texts, settings | {"seed": seed}, work / f"{name}-{seed}")
        for name, texts in (("true", sentences), ("shuffled", shuffled))
    )
    accuracy = lambda params: float(differences_right(photos.rows, asked, photos.texts(params, told)).mean())
    of = {"before": photos.params, "after": true, "control": control}
    mixed = {
        share: {**photos.params, **interpolated(text_side(photos.params), text_side(true), share)} for share in MIXES
    }
    return {
        "accuracy": {name: accuracy(params) for name, params in of.items()},
        "classes": {name: photos.classes_told(params, train, held) for name, params in of.items()},
        "tau": {name: photos.rankings(params, held) for name, params in of.items()},
        "ceiling": photos.ceiling(random.permutation(train), held),
        "zero_shot": {name: photos.zero_shot(of[name]) for name in ("before", "after")},
        "mixes": {
            str(share): {"accuracy": accuracy(params), **photos.zero_shot(params)} for share, params in mixed.items()
        },
    }


def table(found: list[dict]) -> str:
    """Write the tables of all seeds: mean and standard deviation."""
    mean = jax.tree.map(lambda *values: (float(np.mean(values)), float(np.std(values))), *found)
    show = lambda pair, factor=100: f"{factor * pair[0]:.1f} ± {factor * pair[1]:.1f}"
    lines = ["| | before | after | shuffled sentences |", "|---|---|---|---|"]
    for what, key in (("difference accuracy", "accuracy"), ("four classes by two attributes", "classes")):
        own = [show(mean[key][name]) for name in ("before", "after", "control")]
        lines.append(f"| {what} | {' | '.join(own)} |")
    lines += ["", "| Kendall's tau, times 100 | before | after | shuffled sentences | ridge |", "|---|---|---|---|---|"]
    for name in found[0]["tau"]["before"]:
        own = [show(mean["tau"][when][name]) for when in ("before", "after", "control")]
        lines.append(f"| {name} | {' | '.join(own)} | {show(mean['ceiling'][name]) if name in ASPECTS else ''} |")
    lines += ["", "| zero-shot | before | after |", "|---|---|---|"]
    for name in found[0]["zero_shot"]["before"]:
        lines.append(f"| {name} | {' | '.join(show(mean['zero_shot'][when][name]) for when in ('before', 'after'))} |")
    columns = list(next(iter(found[0]["mixes"].values())))
    lines += ["", f"| mix | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for share, own in mean["mixes"].items():
        lines.append(f"| {share} | {' | '.join(show(own[name]) for name in columns)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the seeds that are not measured yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where results and half-done runs are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--temperature", type=float, default=0.1)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--images", type=int, help="so many photographs, to try it")
    parser.add_argument("--held-out", type=int, default=HELD_OUT)
    parser.add_argument("--sets", nargs="*", default=tuple(SETS), choices=tuple(SETS))
    options = parser.parse_args()
    settings = {
        "temperature": options.temperature,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "optimizer": {"lr": options.lr, "schedule": "cosine"},
    }
    asked = {**settings, "pairs": options.pairs, "images": options.images, "held_out": options.held_out}
    asked |= {"sets": list(options.sets)}
    start, photos, found = time.perf_counter(), None, []
    for seed in options.seeds:
        path = options.work / f"seed-{seed}.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if known.get("settings") != asked:
            photos = photos or Photos(options.work, images=options.images, sets=tuple(options.sets))
            result = measured(photos, seed, options.pairs, settings, options.work / "runs", options.held_out)
            known = {"settings": asked, "found": result}
            with new_file(path, overwrite=True) as staged:
                staged.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        found.append(known["found"])
        print(json.dumps({"seed": seed, **found[-1]["accuracy"]}), flush=True)
    print(table(found))
    print(json.dumps({**machine(), "seconds": round(time.perf_counter() - start)}))


if __name__ == "__main__":
    main()
