"""What a job needs to run, to be logged, killed and repeated; left out of the digests of code."""
