"""Is it better, by how much, at what cost: scores, intervals, report."""
