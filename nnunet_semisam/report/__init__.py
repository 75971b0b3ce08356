"""Turns the folder of a benchmark into a page that can be read, believed and repeated.

``benchmark_folder`` reads; ``page``, ``markdown`` and ``long_csv`` write. Everything else is a part of the page.
"""
