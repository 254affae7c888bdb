"""Algorithm 1, losses, soft targets, predictions and metrics; no study and no disk layout."""
