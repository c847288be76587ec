"""Soft targets: the only bridge from teachers to students."""
