"""A CLIP that labels images, finds phrases for them and measures texts; image embeddings are kept beside the store."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipjax.cli.options import tokenizer_of
from clipjax.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, Int
    from PIL import Image

    from clipjax.data.classes import ClassList
    from clipjax.data.source import ImageSource
    from clipjax.progress import Progress


class TextClip:
    """A checkpoint with both towers, and its image embeddings, which lie in STORE.embeddings.

    Raises:
      CheckpointError, ConfigError: it cannot be loaded, or has one tower only.
    """

    def __init__(self, weights: str, store: str, progress: "Progress", *, batch_size: int = 64):
        from clipjax.cli.console import working
        from clipjax.weights.load import load

        with working(f"loading {weights}"):
            self.model, self.params = load(weights)
        if self.model.config.vision is None or self.model.config.text is None:
            raise ConfigError(f"{weights}: has one tower only; pass a checkpoint that has both")
        self.tokenizer = tokenizer_of(weights, self.model.config)
        self._folder, self._progress, self._batch_size = f"{store}.embeddings", progress, batch_size

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of the weights."""
        from clipjax.weights.fingerprint import fingerprint

        return fingerprint(self.params)

    def embed_source(self, source: "ImageSource") -> "Float[np.ndarray, 'images dim']":
        """Embed images, or read the embeddings where they were made before.

        Raises:
          DataError: an image cannot be decoded.
        """
        from clipjax.classify.embed import embed_images
        from clipjax.data.embedding_cache import EmbeddingCache

        key = {"weights": self.fingerprint, "images": source.fingerprint, "transform": "inference"}
        make = lambda: embed_images(
            self.model, self.params, source, batch_size=self._batch_size, progress=self._progress
        )[0]
        return EmbeddingCache(self._folder).get_or_compute(key, make)

    def embed_pictures(self, pictures: "Sequence[Image.Image]") -> "Float[np.ndarray, 'images dim']":
        """Embed pictures, filled up to a batch of one size."""
        import numpy as np

        from clipjax.classify.embed import encode_pixels
        from clipjax.inputs.image import crop_uint8

        c, size, rows = self.model.config, self._batch_size, []
        pixels = [crop_uint8(picture, c.image_size, c.preprocessing) for picture in pictures]
        for start in range(0, len(pixels), size):
            part = np.stack(pixels[start : start + size])
            filled = np.pad(part, [(0, size - len(part)), (0, 0), (0, 0), (0, 0)])
            rows.append(np.asarray(encode_pixels(self.model, self.params, filled))[: len(part)])
        return np.concatenate(rows)

    def embed_texts(self, texts: Sequence[str]) -> "Float[np.ndarray, 'texts dim']":
        """Embed texts."""
        from clipjax.classify.embed import embed_texts

        return embed_texts(self.model, self.params, self.tokenizer, texts, progress=self._progress)

    def zero_shot(
        self, source: "ImageSource", classes: "ClassList", template: Sequence[str]
    ) -> "Int[np.ndarray, ' images']":
        """Label images by the class whose texts are nearest; their own labels are not looked at."""
        import numpy as np

        from clipjax.classify.class_texts import class_texts
        from clipjax.classify.problem import DEFAULT_TEMPLATES
        from clipjax.classify.zero_shot import zero_shot_classifier
        from clipjax.data.classes import read_templates

        templates = [one for spec in template for one in read_templates(spec)]
        templates = templates or ([classes.template] if classes.template else list(DEFAULT_TEMPLATES))
        prompts = class_texts(classes.prompt_names, templates)
        classifier = zero_shot_classifier(self.model, self.params, self.tokenizer, classes.names, prompts)
        return np.asarray(classifier.scores_of(self.embed_source(source))).argmax(-1)
