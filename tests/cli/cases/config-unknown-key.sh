# A key that no option has is an error, not a silence.
printf "[help]\npath = true\ncolour = 1\n" >gpt2.toml
gpt2 help --config gpt2.toml
