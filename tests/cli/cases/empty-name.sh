gpt2 verify ""; echo $?
gpt2 vocab --vocab ""; echo $?
gpt2 pack "$SHARD" -o ""; echo $?
gpt2 bpe-tokenize -o "" <"$SHARD"; echo $?
