"""Files of scans, views and objects, read lazily; which exposures belong together."""
