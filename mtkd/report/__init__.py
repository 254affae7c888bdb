"""What a study shows: published figures, scores and gains, tables, plots, the finding in words, and pages.

`published` and `scores` hold the numbers; `tables`, `plots`, `diagrams` and `finding` show them; `pages` writes them.
"""
