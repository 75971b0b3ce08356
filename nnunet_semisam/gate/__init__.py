"""When an output channel may be used in an unlabeled term: measured on labeled patches, never assumed."""
