"""A benchmark that can be believed: a grid of trainers, label budgets, seeds and configurations on one dataset.

``plan`` holds which runs there are, ``held_out`` the cases they are evaluated on, ``preflight`` what would stop a run,
``runs`` carries one out (:mod:`nnunet_semisam.jobs` many), ``metrics`` measures, ``statistics`` and ``summary``
compare, and ``results`` puts together what was found. ``results_files`` writes and reads the files of a report.
``records`` are what travels between all of these.
"""
