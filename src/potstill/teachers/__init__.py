"""Ensembles: trained here, or brought by the user."""
