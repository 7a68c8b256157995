# nan lies in no range, whatever its comparisons say
for option in "--lr nan" "--lr inf" "--clip nan" "--weight-decay inf" "--max-time nan"; do
    gpt2 train nothing $option || echo $?
done
gpt2 sample nothing --temperature nan || echo $?
gpt2 sample nothing --top-p nan || echo $?
gpt2 pack nothing --val-fraction nan -o shards || echo $?
gpt2 bpe-train --vocab-size 1e12 || echo $?
gpt2 train nothing --threads 1000000000000 || echo $?
