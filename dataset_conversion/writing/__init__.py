"""From planned cases to a raw dataset of nnU-Net: checks, manifest, files."""
