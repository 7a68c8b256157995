# Standard output closed by the parent: a sentence and 74, no traceback.
gpt2 --version >&-
