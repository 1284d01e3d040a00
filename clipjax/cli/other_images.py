"""What `clipjax fewshot` measures besides its test images: other domains, and data sets with classes of their own."""

import argparse
import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipjax.classify.problem import Problem
    from clipjax.data.classes import ClassList
    from clipjax.data.source import ImageSource
    from clipjax.evaluation.measured_images import MeasuredImages


def others_of(args: argparse.Namespace, problem: "Problem") -> "dict[str, tuple[Problem, MeasuredImages]]":
    """Open what `--other` and `--other-images` name, each with a problem that has the classes it is measured on.

    Raises:
      DataError: images that shots are drawn from, or labels that fit no classes.
      ConfigError: `--other-split` without `--other-images`.
    """
    from clipjax.classify.class_texts import class_list_of
    from clipjax.cli.console import progress
    from clipjax.cli.options import conditions
    from clipjax.cli.problem_files import labelled, same_place, usable
    from clipjax.data.classes import read_classes
    from clipjax.data.opening import open_source
    from clipjax.errors import ConfigError
    from clipjax.evaluation.measured_images import MeasuredImages

    if args.other_split and not args.other_images:
        raise ConfigError("--other-split chooses among --other-images; give some")
    own = read_classes(args.classes) if args.classes else class_list_of(problem.images)
    whole = lambda source: usable(source, progress) if args.skip_bad else source
    found = {}
    for pair in args.other:
        source = open_source(args.images, where=conditions([pair], "--other"), progress=progress)
        _check_unseen(f"--other {pair}", source, problem)
        found[pair] = problem, labelled(whole(source), own, args.by_position)
    for path in args.other_images:
        source = open_source(path, split=args.other_split, progress=progress)
        if same_place(path, args.images):
            _check_unseen(f"--other-images {path}", source, problem)
        source = whole(source)
        found[path] = _of_known_classes(source, own, problem) or _of_own_classes(args, source, problem)
    return {name: (other, MeasuredImages(source, problem, progress)) for name, (other, source) in found.items()}


def _of_known_classes(
    source: "ImageSource", own: "ClassList", problem: "Problem"
) -> "tuple[Problem, ImageSource] | None":
    """Return the problem of the classes that the images are of, if the class list has them all by name."""
    import numpy as np

    from clipjax.data.classes import labels_for
    from clipjax.errors import DataError
    from clipjax.evaluation.few_shot import restrict_to_classes

    try:
        labels, matched = labels_for(source, own)
    except DataError:  # classes of their own
        return None
    present = np.unique(labels)
    if matched != "by name" or len(present) < 2:  # of one class there is nothing to tell apart
        return None
    part = dataclasses.replace(problem, shots=None, texts=None).restricted_to(present)
    return part, dataclasses.replace(source, labels=restrict_to_classes(labels, present)[1].astype(np.int32))


def _of_own_classes(
    args: argparse.Namespace, source: "ImageSource", problem: "Problem"
) -> "tuple[Problem, ImageSource]":
    from clipjax.classify.class_texts import class_list_of, class_texts
    from clipjax.classify.problem import DEFAULT_TEMPLATES
    from clipjax.cli.problem_files import labelled
    from clipjax.data.classes import read_templates

    classes = class_list_of(source)
    templates = [text for spec in args.template for text in read_templates(spec)] or list(DEFAULT_TEMPLATES)
    prompts = tuple(map(tuple, class_texts(classes.prompt_names, templates)))
    other = dataclasses.replace(problem, class_names=tuple(classes.names), prompts=prompts, shots=None, texts=None)
    return other, labelled(source, classes, args.by_position)


def _check_unseen(flag: str, source: "ImageSource", problem: "Problem") -> None:
    from clipjax.errors import DataError

    if problem.shots is not None and (shared := set(problem.shots.ids) & set(source.ids)):
        raise DataError(f"{flag}: {len(shared)} of these images are among those that shots are drawn from; take others")
