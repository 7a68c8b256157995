# A full disk under standard output: one sentence and 74.
gpt2 --help >/dev/full
