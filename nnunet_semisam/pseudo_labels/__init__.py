"""The SAM stage: network opinion to prompts to SAM to a label with trust, stored in rounds."""
