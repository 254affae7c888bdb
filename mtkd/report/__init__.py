"""The report: published figures, scores, tables, plots, the finding in words, pages."""
