"""A SAM for one fold: adapted to its labeled cases, and measured beside a trained network."""
