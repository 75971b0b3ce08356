"""Generalists: a SAM, a way to look at a volume and a way to prompt; alone or several as one."""
