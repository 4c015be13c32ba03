"""What is on disk, and which exposures belong together."""
