gpt2 --version >/dev/full
