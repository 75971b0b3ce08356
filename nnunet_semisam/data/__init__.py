"""Unlabeled cases: splits, data set, views and loader."""
