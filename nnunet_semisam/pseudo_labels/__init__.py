"""Between epochs: the specialist's prediction to prompts to generalists to a label with confidence, in rounds."""
