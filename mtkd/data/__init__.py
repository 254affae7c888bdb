"""From rows to mini-batches: read, check, tokenize, and sample."""
