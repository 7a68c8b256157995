# Far more than a pipe holds, to a reader that wants one byte.
gpt2 bpe-tokenize "$DOCUMENTS" "$PLAYS"/*.txt -q | head -c 1 >/dev/null
echo "${PIPESTATUS[0]}"
