gpt2 pack -o x --seed 1e3; echo $?
gpt2 pack -o x --val-fraction much; echo $?
gpt2 bpe-tokenize -j two; echo $?
