"""Rows in, tasks out: reading, checking, splitting, identifying, batching."""
