"""Multi-task knowledge distillation that anyone can rerun (MT-DNN_KD, arXiv 1904.09482; MKD, arXiv
1911.03588).
"""

__version__ = "0.1.0"
