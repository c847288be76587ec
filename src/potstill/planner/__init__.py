"""Room for task grouping under a budget (empty so far)."""
