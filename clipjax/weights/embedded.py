"""The small CLIP inside the package: where it lies. `configs/pretrain.py:glyphs` made it."""

from pathlib import Path

EMBEDDED = Path(__file__).resolve().parent.parent / "assets" / "clip-glyphs"
"""A directory in Hugging Face's layout: 32x32 images, English captions of digits, letters and shapes."""
