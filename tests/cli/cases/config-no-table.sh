echo 'vocab = "my.vocab"' >gpt2.toml
gpt2 vocab --config gpt2.toml
