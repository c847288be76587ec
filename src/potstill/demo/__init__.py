"""Data for a first run: small text tasks that the package writes itself."""
