"""Names for configurations. ``nnUNet_extTrainer`` points at this folder."""
