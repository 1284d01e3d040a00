"""Captions and answers: CLIP's visual tokens mapped into a language model, with AAPE's prompt token or without."""

from clipjax.methods.captioning.captioner import Captioner
from clipjax.methods.captioning.fitting import Config, fit_captioner
from clipjax.methods.captioning.language import perplexity, train_language_model, unigram_perplexity
from clipjax.methods.captioning.visual import VisualFeatures, visual_features
from clipjax.methods.captioning.writing import write_texts

__all__ = [
    "Captioner",
    "Config",
    "VisualFeatures",
    "fit_captioner",
    "perplexity",
    "train_language_model",
    "unigram_perplexity",
    "visual_features",
    "write_texts",
]
