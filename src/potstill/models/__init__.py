"""Networks and their files: tensors and model folders. Know no task."""
