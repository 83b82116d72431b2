"""One HTML page of a bundle and of what was measured on it, complete in itself: no script, and nothing loaded from anywhere."""
