gpt2 --version <&-
