"""Quality of generated text: diversity, repetition, likelihood under another model, nearness to references."""
