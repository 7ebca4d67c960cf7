"""Data sets of the literature, one module each, with its own files, units and splits by name."""
