"""One module a format: writers of objects for other programs."""
