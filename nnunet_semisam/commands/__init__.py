"""One console verb per file."""
