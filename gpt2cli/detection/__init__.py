"""Detection: was a text written by a person or sampled from a model, and how sure can one be."""
