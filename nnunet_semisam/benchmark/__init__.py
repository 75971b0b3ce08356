"""A benchmark that can be believed: a grid of trainers, label budgets, seeds and configurations on one dataset.

``plan`` says which runs there are, ``held_out`` which cases judge them, ``runs`` carries one out, ``executors`` many,
``metrics`` measures, ``statistics`` compares, and ``results`` writes what a report reads.
"""
