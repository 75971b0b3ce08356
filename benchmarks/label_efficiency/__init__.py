"""Label efficiency: which trainer makes the most of few labels. See README.md."""
