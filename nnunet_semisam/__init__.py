"""Semi-supervised nnU-Net v2 training with unlabeled cases and Segment Anything pseudo-labels."""

__version__ = "0.1.0"
