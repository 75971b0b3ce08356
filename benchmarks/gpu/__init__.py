"""Everything that needs a GPU, in resumable pieces of a few minutes: see README.md."""
