# A zstd file that was cut short is found out, and nothing is left behind.
head -c 2000 "$DOCUMENTS" >cut.jsonl.zst
gpt2 bpe-tokenize cut.jsonl.zst -o x.tok.zst
echo "$?"
ls -A
