# An output whose directory is missing.
gpt2 bpe-tokenize /dev/null -o nowhere/x.tok.zst
