"""The files of each data set, and the cases that are made of them."""
