"""Scaling laws: forms, fits, uncertainty, diagnosis, allocation, plots."""
