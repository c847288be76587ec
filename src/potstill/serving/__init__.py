"""Room for the service; must start without torch (empty so far)."""
