# A file that is not there: its name, the reason, 2.
gpt2 bpe-tokenize nowhere.txt -o x.tok.zst
echo "$?"
ls -A
