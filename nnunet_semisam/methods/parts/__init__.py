"""Parts that several methods share: losses, moving average, mixing, schedules."""
