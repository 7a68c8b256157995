printf '{"schema":"gpt2.document/9","id":"a","text":"x"}\n' | gpt2 bpe-tokenize -o x.tok.zst
