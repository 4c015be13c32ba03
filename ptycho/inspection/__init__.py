"""What is wrong with a scan, and how good a reconstruction of it is, before and without a truth."""
