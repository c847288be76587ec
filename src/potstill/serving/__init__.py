"""Bundles that answer; starts without torch (the service itself is still to come)."""
