"""Examples: load, tokenise, and pack into one-task mini-batches."""
