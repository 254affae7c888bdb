"""Multi-task knowledge distillation that anyone can rerun (MT-DNN_KD, arXiv 1904.09482; MKD, arXiv
1911.03588).
"""

from importlib import import_module

__version__ = "0.1.0"


def __getattr__(name: str):
    """Import `load` when it is asked for: it takes seconds."""
    if name == "load":
        return import_module("mtkd.inference.load").open_model
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
