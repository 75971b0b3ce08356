"""Carry out long work: in this process, in several, or as jobs of a cluster."""
