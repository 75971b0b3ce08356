"""Around the annotator: which case to label next, pseudo-labels to open and correct, where a prediction is unsure.

Everything here looks at images and at a trained model; no label of an unlabeled case is opened.
"""
