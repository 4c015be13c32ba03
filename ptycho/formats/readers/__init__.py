"""One module a format: what it recognizes, and a reader that says what it has applied and what the file leaves open."""
