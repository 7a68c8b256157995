"""Evaluation: negative log-likelihood by exactly named protocols."""
