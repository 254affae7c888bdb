"""The shared encoder and the task heads (section 2 of MT-DNN_KD)."""

from mtkd.models.multitask import MultiTaskModel, load_encoder

__all__ = ["MultiTaskModel", "load_encoder"]
