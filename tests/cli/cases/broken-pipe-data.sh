# Far more than a pipe holds (random text hardly compresses), to a reader that wants one byte.
head -c 400000 /dev/urandom | base64 | gpt2 bpe-tokenize -q | head -c 1 >/dev/null
echo "${PIPESTATUS[2]}"
