# A config file and the environment reach a flag without value.
printf '[help]\npath = true\n' >gpt2.toml
gpt2 help --config gpt2.toml pipeline
GPT2_HELP_PATH=1 gpt2 help pipeline
gpt2 help --path --verbose pipeline
