gpt2 help --config nowhere.toml
