"""What of a test set stands in the training text: n-grams of words that both hold (Radford et al. 2019, section 4)."""
