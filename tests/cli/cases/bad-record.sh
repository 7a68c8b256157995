# A malformed record: file, line, reason; 65.
printf '{"schema":"gpt2.document/1","id":"a","text":"x"}\n{"schema":' >docs.jsonl
gpt2 bpe-tokenize docs.jsonl -o x.tok.zst
echo "$?"
ls -A
