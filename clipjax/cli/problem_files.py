"""From what a user points at (files, names, flags) to a `Problem`; shared by `clipjax adapt` and `clipjax train`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clipjax.cli.options import conditions, tokenizer_of
from clipjax.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int

    from clipjax.classify.problem import Problem
    from clipjax.data.classes import ClassList
    from clipjax.data.source import ImageSource
    from clipjax.progress import Progress


@dataclasses.dataclass(frozen=True)
class ProblemFiles:
    """Where the parts of a problem lie.

    `where` holds COLUMN=VALUE conditions. With `labels` the images' own labels are used: they become
    the shots, `shots` of each class where that is given, drawn by `shots_seed`. `texts` is a store of written texts.
    `test` are labelled images to measure on. `student` is a checkpoint of another model, for methods that train one by
    another. `by_position` lets label 0 mean the first class and so on where the data calls its classes otherwise.
    `skip_bad` decodes every image once at the start and leaves out those that cannot be used.
    """

    weights: str
    images: str
    split: str | None = None
    where: tuple[str, ...] = ()
    splits_file: str | None = None
    classes: str | None = None
    template: tuple[str, ...] = ()
    descriptions: str | None = None
    texts: str | None = None
    student: str | None = None
    labels: bool = False
    shots: int | None = None
    shots_seed: int = 0
    test: str | None = None
    test_split: str | None = None
    test_where: tuple[str, ...] = ()
    by_position: bool = False
    skip_bad: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"


@dataclasses.dataclass(frozen=True)
class Opened:
    """A problem, the labelled images to measure on, if there are any, and the places that were read.

    `hidden` are the classes of the problem's images where the data has them: methods never see them, and their
    pseudo-labels are compared with them afterwards. `files` is where everything lies.
    """

    problem: "Problem"
    test: "ImageSource | None" = None
    made_from: tuple[str, ...] = ()
    hidden: "Int[np.ndarray, ' images'] | None" = None
    files: ProblemFiles | None = None


def open_problem(files: ProblemFiles, progress: "Progress") -> Opened:
    """Load the model, open the images, and match classes and labels.

    Raises:
      DataError, ConfigError, CheckpointError: a part cannot be read, or does not fit the others.
    """
    from clipjax.classify.class_texts import class_list_of, class_texts
    from clipjax.classify.problem import DEFAULT_TEMPLATES, Problem, Student
    from clipjax.data.classes import read_classes, read_descriptions, read_templates
    from clipjax.data.opening import open_source
    from clipjax.texts.collected import read_texts
    from clipjax.weights.load import load

    templates = [template for spec in files.template for template in read_templates(spec)]
    classes = read_classes(files.classes) if files.classes else None
    source = open_source(
        files.images,
        split=files.split,
        where=conditions(files.where, "where"),
        splits_file=files.splits_file,
        progress=progress,
    )
    test = None
    if files.test or files.test_split or files.test_where:
        test = open_source(
            files.test or files.images,
            split=files.test_split,
            where=conditions(files.test_where, "test_where"),
            splits_file=files.splits_file,
            progress=progress,
        )
    if files.skip_bad:
        source, test = usable(source, progress), test and usable(test, progress)
    classes = classes or class_list_of(source)
    names = list(dict.fromkeys(name for name, *_ in classes.prompt_names))
    descriptions = read_descriptions(files.descriptions, names) if files.descriptions else None
    if not templates and descriptions is None:
        templates = [classes.template] if classes.template else list(DEFAULT_TEMPLATES)
    prompts = class_texts(classes.prompt_names, templates, descriptions)
    model, params = load(files.weights)
    if model.config.vision is None or model.config.text is None:
        raise ConfigError(f"{files.weights}: has one tower only; pass a checkpoint that has both")
    student = None
    if files.student:
        other, other_params = load(files.student)
        if other.config.vision is None or other.config.text is None:
            raise ConfigError(f"{files.student}: has one tower only; pass a checkpoint that has both")
        tokenizer = tokenizer_of(files.student, other.config)
        student = Student(other.replace(dtype=files.dtype), other_params, tokenizer)
    problem = Problem(
        model.replace(dtype=files.dtype),
        params,
        tokenizer_of(files.weights, model.config),
        tuple(classes.names),
        tuple(map(tuple, prompts)),
        source,
        shots=_shots(source, classes, files) if files.labels or files.shots else None,
        texts=read_texts(files.texts) if files.texts else None,
        student=student,
    )
    if test is not None:
        _check_apart(problem, test, one_place=files.test is None or same_place(files.test, files.images))
        test = labelled(test, classes, files.by_position)
    read = (files.weights, files.student, files.images, files.texts, files.test)
    hidden = _hidden(source, classes, files.by_position)
    return Opened(problem, test, tuple(place for place in read if place), hidden, files)


def labelled(source: "ImageSource", classes: "ClassList", by_position: bool) -> "ImageSource":
    """Return the images with labels that are positions in the class list.

    Raises:
      DataError: labels and class list do not fit together.
    """
    from clipjax.cli.classification import labels_of

    return dataclasses.replace(source, labels=labels_of(source, classes, by_position=by_position))


def _hidden(source: "ImageSource", classes: "ClassList", by_position: bool) -> "Int[np.ndarray, ' images'] | None":
    from clipjax.data.classes import labels_for

    try:
        labels, matched = labels_for(source, classes)
    except DataError:  # not labelled, or otherwise; then nothing is compared
        return None
    return labels if matched == "by name" or by_position or not any(source.classnames) else None


def _shots(source: "ImageSource", classes: "ClassList", files: ProblemFiles) -> "ImageSource":
    from clipjax.data.splits import few_shot

    shots = labelled(source, classes, files.by_position)
    return shots if files.shots is None else few_shot(shots, files.shots, files.shots_seed)


def usable(source: "ImageSource", progress: "Progress") -> "ImageSource":
    """Return the images that can be decoded, and list the others."""
    from clipjax.cli.options import report_skipped
    from clipjax.data.loader import without_bad

    source, bad = without_bad(source, progress=progress)
    report_skipped(bad)
    return source


def same_place(first: str, second: str) -> bool:
    """Say whether two paths lead to one place, however they are written."""
    return Path(first).resolve() == Path(second).resolve()


def _check_apart(problem: "Problem", test: "ImageSource", *, one_place: bool) -> None:
    from clipjax.cli.console import note

    measured = set(test.ids) if one_place else set()
    if problem.shots is not None and (shared := measured & set(problem.shots.ids)):
        raise DataError(
            f"{test.name}: {len(shared)} test images are among those whose labels are learnt from; "
            "choose others with --split or --where, or with --test"
        )
    if shared := measured & set(problem.images.ids):
        note(f"{len(shared)} test images are among the unlabelled ones that the method sees")
