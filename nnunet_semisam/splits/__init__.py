"""Who is labeled, hidden or held out: folds, label budgets, groups of cases."""
