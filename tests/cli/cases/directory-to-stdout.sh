gpt2 pack "$SHARD" -o -; echo $?
gpt2 shard export --to llm.c "$SHARD" -o -; echo $?
gpt2 vocab --export hf -o -; echo $?
ls
