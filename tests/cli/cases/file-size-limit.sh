# A file may grow to 1 KiB only: one sentence, 74, nothing half-written.
ulimit -f 1
gpt2 bpe-tokenize "$DOCUMENTS" -o x.tok.zst
echo "$?"
ls -A
