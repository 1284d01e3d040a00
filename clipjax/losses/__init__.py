"""Losses as pure functions of arrays."""

from clipjax.losses.contrastive import clip_loss, sharded_clip_loss
from clipjax.losses.over_mesh import ClipLossOverMesh, SiglipLossOverMesh
from clipjax.losses.pairing import equal_caption_mask, equal_caption_targets
from clipjax.losses.sigmoid import sharded_siglip_loss, siglip_loss

__all__ = [
    "ClipLossOverMesh",
    "SiglipLossOverMesh",
    "clip_loss",
    "equal_caption_mask",
    "equal_caption_targets",
    "sharded_clip_loss",
    "sharded_siglip_loss",
    "siglip_loss",
]
