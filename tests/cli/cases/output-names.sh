# A failure names what was asked for, never a temporary; a closed input is called that
echo text >text
mkdir directory
gpt2 bpe-tokenize text -o /proc/x || echo $?
gpt2 bpe-tokenize text -f -o directory || echo $?
gpt2 bpe-tokenize text -o tokens.tok.zst -q
gpt2 pack tokens.tok.zst -o /proc/x || echo $?
gpt2 bpe-tokenize -o out <&- || echo $?
gpt2 pack -o out <&- || echo $?
gpt2 bpe-tokenize /proc/self/mem -o out || echo $?
ls
