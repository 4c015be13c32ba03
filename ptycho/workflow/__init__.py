"""What a job needs to run, to be logged, stopped and repeated; left out of the code digests."""
