"""GPT-2 itself: the network, its initialisation, its KV cache and its weights on disk."""
