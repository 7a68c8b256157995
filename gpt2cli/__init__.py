"""gpt2cli: rebuild GPT-2 end to end from the command line, and study how it scales."""

__version__ = "0.1.0"
