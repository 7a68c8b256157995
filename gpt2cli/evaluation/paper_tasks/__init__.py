"""The GPT-2 paper's zero-shot tasks on data that the user has, and tasks made from a seed: each a Task, made ready."""
