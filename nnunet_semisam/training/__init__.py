"""Everything that meets nnU-Net's trainer: loops, checkpoints, loaders, logs."""
