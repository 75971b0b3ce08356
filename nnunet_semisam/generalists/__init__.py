"""Generalists: a SAM, a way to look at a case, and a way to prompt it."""
