echo "seed: 1" >gpt2.toml
gpt2 help --config gpt2.toml
