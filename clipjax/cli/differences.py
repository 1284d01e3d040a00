"""clipjax differences --task cifar100-size --weights RUN/model --images cifar100/ --split test"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clipjax.cli.options import (
    add_images,
    add_json,
    add_weights,
    given,
    load_model,
    load_text_side,
    open_images,
    positive,
)
from clipjax.errors import ConfigError

if TYPE_CHECKING:
    from clipjax.data.source import ImageSource
    from clipjax.evaluation.difference_tasks import DifferenceTask

TASKS = ("awa2", "cifar100-size", "cub", "flowers-colour")


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "differences",
        help="measure how often a sentence about two images is told rightly, on the tasks of PC-CLIP's paper",
        description="Ask of pairs of images whether a sentence that is true of them, in this order, is more like the "
        "first than like the second; chance is 50 %. Images and pairs are drawn once for each seed.",
    )
    parser.add_argument("--task", required=True, choices=TASKS, help="which images and sentences")
    add_weights(parser)
    add_images(parser)
    parser.add_argument(
        "--attributes", type=given, metavar="DIR",
        help="for awa2: the folder of classes.txt and predicate-matrix-binary.txt (default: that of the images, or "
        "the one above)",
    )  # fmt: skip
    parser.add_argument(
        "--texts", type=given, metavar="STORE", help="for cub: differences of the test images, see `clipjax texts`"
    )
    parser.add_argument("--seeds", type=positive, default=5, metavar="N", help="draws (default: 5)")
    parser.add_argument(
        "--paper-code-compat", action="store_true",
        help="repeat the mistakes of the released code: other attributes of awa2, other flowers of flowers-colour",
    )  # fmt: skip
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    import numpy as np

    from clipjax.classify.embed import embed_images, embed_texts
    from clipjax.cli.console import note, print_json, print_table, progress
    from clipjax.evaluation.difference import differences_right, over_seeds

    if args.skip_bad:
        raise ConfigError("--skip-bad would leave a pair with one image; leave it out, and remove the broken images")
    source = open_images(args)
    draw = _drawing(args, source)
    tasks = [draw(seed) for seed in range(args.seeds)]
    model, params = load_model(args, needs=("vision", "text"))
    tokenizer = load_text_side(args, model)
    assert model.config.text is not None
    occurring = np.unique(np.concatenate([task.images for task in tasks]))
    images = source.select(occurring)
    rows, _, _ = embed_images(model, params, images, batch_size=args.batch_size, progress=progress)
    told = sorted({sentence for task in tasks for sentence in task.sentences})
    texts = embed_texts(model, params, tokenizer, told, progress=progress)
    place = {sentence: number for number, sentence in enumerate(told)}
    accuracies = []
    for task in tasks:
        own = texts[[place[sentence] for sentence in task.sentences]]
        right = differences_right(rows[np.searchsorted(occurring, task.images)], task.pairs, own)
        accuracies.append(100 * float(right.mean()))
    mean, error = over_seeds(accuracies)
    cut = int(tokenizer.truncated(told, model.config.text.context_length).sum())
    if args.json:
        print_json(
            {
                "task": args.task,
                "paper_code_compat": args.paper_code_compat,
                "accuracy": round(mean, 2),
                "standard_error": round(error, 2),
                "seeds": [round(accuracy, 2) for accuracy in accuracies],
                "pairs": [len(task.pairs) for task in tasks],
                "sentences": len(told),
                "sentences_cut": cut,
            }
        )
        return
    counts = [
        [seed, len(task.pairs), f"{accuracy:.2f}"] for seed, (task, accuracy) in enumerate(zip(tasks, accuracies))
    ]
    print_table(f"{args.task}: {mean:.2f} ± {error:.2f} % (chance is 50)", ["seed", "pairs", "accuracy %"], counts)
    if cut:
        note(f"{cut:,} of {len(told):,} sentences are longer than the model's context, which cuts them off")


def _drawing(args: argparse.Namespace, source: "ImageSource") -> "Callable[[int], DifferenceTask]":
    """Return what draws the task's images and pairs for a seed.

    Raises:
      ConfigError: the task needs an option that is not given.
    """
    from clipjax.data.awa2 import read_attributes
    from clipjax.evaluation import difference_tasks as tasks
    from clipjax.texts.collected import read_texts

    compat = args.paper_code_compat
    if compat and args.task in ("cub", "cifar100-size"):
        raise ConfigError(f"--paper-code-compat: the released code makes no mistake in {args.task}; leave it out")
    if args.task == "cifar100-size":
        return lambda seed: tasks.size_task(source, seed=seed)
    if args.task == "flowers-colour":
        return lambda seed: tasks.colour_task(source, seed=seed, paper_code_compat=compat)
    if args.task == "awa2":
        table = read_attributes(args.attributes or _beside(args.images))
        return lambda seed: tasks.attribute_task(source, table, seed=seed, paper_code_compat=compat)
    if args.texts is None:
        raise ConfigError("the task cub needs differences written about the test images; pass --texts STORE")
    texts = read_texts(args.texts)
    return lambda seed: tasks.written_task(source, texts, seed=seed)


def _beside(images: str) -> Path:
    folder = Path(images)
    return folder if (folder / "predicates.txt").is_file() else folder.parent
