"""The parts of the page, one file each, and the sentences and tables that they share."""
