"""From a pretraining configuration to a model, a tokenizer and batches of captioned images."""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from clipjax.cli.options import tokenizer_of
from clipjax.errors import ConfigError

if TYPE_CHECKING:
    from clipjax.data.batches import BatchSource
    from clipjax.inputs.tokenizer import Tokenizer
    from clipjax.models.clip import CLIP
    from clipjax.progress import Progress


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The sizes of a CLIP of two transformers, or a preset's name."""

    preset: str | None = None
    image_size: int = 224
    patch_size: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    context_length: int = 77
    embed_dim: int = 512


@dataclasses.dataclass(frozen=True)
class Captioned:
    """Images with captions from a file, or with `template`s of their class names, and the rows they have in a batch."""

    images: str
    rows: int
    split: str | None = None
    where: tuple[str, ...] = ()
    captions: str | None = None
    classes: str | None = None
    template: tuple[str, ...] = ()
    crop: float = 0.9
    flip: float = 0.0
    jitter: float = 0.0
    grayscale: float = 0.0
    rand_augment: int = 0


@dataclasses.dataclass(frozen=True)
class PretrainFiles:
    """What to pretrain from.

    `world` "glyphs" draws its images and captions, `batch_size` a step; otherwise `sources` are the
    parts of each batch. `tokenizer` is a checkpoint's or a vocabulary's place; without one, the
    procedural world trains its own of at most `vocab_size` tokens, and photographs use CLIP's.
    Captions are cut at `caption_length` tokens. `weights` continues from a checkpoint. With `skip_bad`
    another image takes the place of one that cannot be decoded, and the log names it.
    """

    architecture: Architecture = Architecture()
    world: Literal["glyphs", "images"] = "images"
    batch_size: int = 256
    sources: tuple[Captioned, ...] = ()
    tokenizer: str | None = None
    vocab_size: int = 1024
    caption_length: int = 32
    weights: str | None = None
    skip_bad: bool = False
    seed: int = 0


def build(files: PretrainFiles, progress: "Progress") -> "tuple[CLIP, Any, Tokenizer, BatchSource]":
    """Return the model, its params if it continues from a checkpoint, the tokenizer and the batches.

    Raises:
      ConfigError, DataError: parts that are missing or do not fit together.
    """
    from clipjax.weights.load import load

    params = None
    if files.weights:
        model, params = load(files.weights)
        tokenizer = tokenizer_of(files.tokenizer or files.weights, model.config)
    else:
        tokenizer = _tokenizer(files)
        model = _model(files.architecture, tokenizer)
    return model, params, tokenizer, _batches(files, model, tokenizer, progress)


def abstract_model(files: PretrainFiles) -> "CLIP":
    """Return the model alone, for planning.

    Raises:
      ConfigError: sizes that do not fit together, or no such preset.
    """
    if files.weights:
        from clipjax.weights.load import load

        return load(files.weights)[0]
    return _model(files.architecture, None if files.architecture.preset else _tokenizer(files))


def _tokenizer(files: PretrainFiles) -> "Tokenizer":
    from clipjax.inputs.tokenizer import load_tokenizer, openai_tokenizer

    length = files.architecture.context_length
    if files.tokenizer:
        from clipjax.weights.load import resolve

        return dataclasses.replace(load_tokenizer(resolve(files.tokenizer)), context_length=length)
    if files.world == "glyphs":
        from clipjax.data.glyph_batches import sample_captions
        from clipjax.inputs.tokenizer_trainer import train_tokenizer

        return train_tokenizer(sample_captions(6000, files.seed), files.vocab_size, length)
    return dataclasses.replace(openai_tokenizer(), context_length=length)


def _model(sizes: Architecture, tokenizer: "Tokenizer | None") -> "CLIP":
    from clipjax.models.clip import CLIP
    from clipjax.models.config import CLIPConfig, TextConfig, ViTConfig
    from clipjax.models.presets import preset

    if sizes.preset is not None or tokenizer is None:
        return CLIP(preset(sizes.preset or ""))
    s = sizes
    vision = ViTConfig(s.image_size, s.patch_size, s.width, s.layers, s.heads, 4 * s.width)
    text = TextConfig(
        vocab_size=tokenizer.vocab_size,
        context_length=s.context_length,
        width=s.text_width,
        layers=s.text_layers,
        heads=s.text_heads,
        mlp_width=4 * s.text_width,
        end_of_text="largest" if tokenizer.end_id == tokenizer.vocab_size - 1 else "first",
        bos_token_id=tokenizer.start_id,
        eos_token_id=tokenizer.end_id,
        pad_token_id=tokenizer.pad_id,
    )
    return CLIP(CLIPConfig(vision, text, s.embed_dim))


def _batches(files: PretrainFiles, model: "CLIP", tokenizer: "Tokenizer", progress: "Progress") -> "BatchSource":
    clip = model.config
    if files.world == "glyphs":
        from clipjax.data.glyph_batches import GlyphBatches

        return GlyphBatches(
            clip.image_size, files.batch_size, files.seed, tokenizer, files.caption_length, clip.mean, clip.std
        )
    if not files.sources:
        raise ConfigError("data.sources is empty; list at least one folder or tar of images with captions")
    from clipjax.data.mixture import Mixture

    parts = tuple(
        _captioned(part, files, model, tokenizer, number, progress) for number, part in enumerate(files.sources)
    )
    return parts[0] if len(parts) == 1 else Mixture(parts)


def _captioned(part: Captioned, files: PretrainFiles, model: "CLIP", tokenizer: "Tokenizer", number: int, progress):
    from clipjax.cli.options import conditions
    from clipjax.data.caption_tokens import tokenize_captions
    from clipjax.data.captions import captions_for, read_captions
    from clipjax.data.image_batches import ImageBatches
    from clipjax.data.opening import open_source
    from clipjax.data.samplers import Shuffled
    from clipjax.data.views import augmented_view

    source = open_source(part.images, part.split, conditions(part.where, "where"), progress=progress)
    if part.captions is not None:
        texts, owners = captions_for(source, read_captions(part.captions))
        of_image: list[list[str]] = [[] for _ in range(len(source))]
        for text, owner in zip(texts, owners):
            of_image[owner].append(text)
        captions = tokenize_captions(of_image, tokenizer, length=files.caption_length)
    else:
        groups, labels = _class_captions(part, source)
        captions = tokenize_captions(groups, tokenizer, group_of=labels, length=files.caption_length)
    clip, seed = model.config, files.seed + number
    return ImageBatches(
        source,
        Shuffled(len(source), seed),
        augmented_view(
            clip.image_size,
            clip.mean,
            clip.std,
            crop=part.crop,
            flip=part.flip,
            jitter=part.jitter,
            grayscale=part.grayscale,
            rand_augment=part.rand_augment,
        ),
        part.rows,
        seed,
        captions=captions,
        skip_bad=files.skip_bad,
    )


def _class_captions(part: Captioned, source):
    from clipjax.classify.class_texts import class_list_of, class_texts
    from clipjax.classify.problem import DEFAULT_TEMPLATES
    from clipjax.data.classes import labels_for, read_classes, read_templates

    classes = read_classes(part.classes) if part.classes else class_list_of(source)
    templates = [template for spec in part.template for template in read_templates(spec)]
    templates = templates or ([classes.template] if classes.template else list(DEFAULT_TEMPLATES))
    labels, _ = labels_for(source, classes)
    return class_texts(classes.prompt_names, templates), labels
