cp "$SHARD" $'b\xff.tok.zst'
gpt2 verify $'b\xff.tok.zst' $'none\xff' --quiet | jq -c .problems; echo $?
for option in bpe-tokenize\ --source bpe-tokenize\ --split-on shard\ import\ --from\ nanogpt\ --source; do
    gpt2 $option $'\xff' -o x </dev/null; echo $?
done
ls | wc -l
