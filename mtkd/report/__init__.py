"""Tables, figures and pages of a study's results, made from data frames."""
