"""Encoders and the multi-task model."""

from mtkd.models.multitask import MultiTaskModel, load_encoder

__all__ = ["MultiTaskModel", "load_encoder"]
