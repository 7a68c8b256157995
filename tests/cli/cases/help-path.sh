gpt2 help --path pipeline
