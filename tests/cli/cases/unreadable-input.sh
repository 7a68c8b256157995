# root reads everything unless it gives that up
as_user=()
[ "$(id -u)" != 0 ] || as_user=(setpriv --bounding-set=-dac_override,-dac_read_search)
cp "$SHARD" locked.tok.zst && chmod 000 locked.tok.zst
for command in "pack -o set" "shard info" "bpe-tokenize -o x" "bpe-train --vocab-size 300 -o x" "vocab --vocab"; do
    "${as_user[@]}" gpt2 $command locked.tok.zst; echo "${command%% *} $?"
done
"${as_user[@]}" gpt2 verify --quiet locked.tok.zst "$SHARD" | jq -c '[.kind, .ok]'; echo "verify $?"
ls
