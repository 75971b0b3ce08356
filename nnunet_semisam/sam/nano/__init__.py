"""The nano SAM of this package, and how its weights were made."""
