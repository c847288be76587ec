"""What every room may lean on: errors, files, device, progress. Knows nothing of tasks."""
