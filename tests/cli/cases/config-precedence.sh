# Flag over environment over config file over default; -v says which it was.
set +o pipefail
printf '[pack]\nval-fraction = 0.25\n' >gpt2.toml
ask() { "$@" 2>&1 | grep '^gpt2 pack: val_fraction'; }
ask gpt2 pack nowhere.tok.zst -v -o shards --config gpt2.toml
ask env GPT2_PACK_VAL_FRACTION=0.125 gpt2 pack nowhere.tok.zst -v -o shards --config gpt2.toml
ask env GPT2_PACK_VAL_FRACTION=0.125 gpt2 pack nowhere.tok.zst -v -o shards --config gpt2.toml --val-fraction 0.5
ask gpt2 pack nowhere.tok.zst -v -o shards | sed "s,= .*(,(,"
