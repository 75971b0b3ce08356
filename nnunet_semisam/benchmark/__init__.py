"""A benchmark that can be believed: a grid of trainers, label budgets, seeds and configurations on one dataset.

``plan`` holds which runs there are, ``held_out`` the cases they are evaluated on, ``preflight`` what would stop a run,
``runs`` carries one out (:mod:`nnunet_semisam.jobs` many), ``metrics`` measures, ``statistics`` and ``summary``
compare, and ``results`` writes what a report reads. ``records`` are what travels between them.
"""
