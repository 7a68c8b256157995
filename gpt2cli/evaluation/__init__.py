"""Evaluation: perplexity by exactly named protocols."""
