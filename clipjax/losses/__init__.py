"""Losses as pure functions of arrays."""

from clipjax.losses.contrastive import clip_loss
from clipjax.losses.sigmoid import siglip_loss

__all__ = ["clip_loss", "siglip_loss"]
