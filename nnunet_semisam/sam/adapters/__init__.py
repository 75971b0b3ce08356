"""Adapt a SAM to a few labeled cases: what of it learns, from which examples, and the file that holds the result."""
