"""A trained model in use: predict, export, submit to GLUE, ask in a notebook."""
