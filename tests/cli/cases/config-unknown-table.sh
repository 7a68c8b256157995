printf "[trian]\nseed = 1\n" >gpt2.toml
gpt2 help --config gpt2.toml
