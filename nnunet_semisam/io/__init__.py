"""Reading and writing files: one way each."""
