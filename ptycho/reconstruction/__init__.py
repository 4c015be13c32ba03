"""Images from counts, without networks."""
