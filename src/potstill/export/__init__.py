"""Room for the bundle and its engines (empty so far)."""
