"""The settings of a run: fields, the configuration, the user's yaml file."""
