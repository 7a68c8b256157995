gpt2 --version
