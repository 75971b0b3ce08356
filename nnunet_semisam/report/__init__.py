"""Turns the folder of a benchmark into a page that can be read, believed and repeated.

``page``, ``markdown`` and ``long_csv`` write it; ``sections`` are the parts of the page; ``drawing`` makes HTML, charts
and pictures; ``reading`` finds out what there is. Imports go in that order only, and ``reading`` imports no drawing.
"""
