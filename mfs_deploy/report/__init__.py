"""One HTML page of a bundle and of what was measured on it, in one file: no script, and nothing loaded from elsewhere."""
