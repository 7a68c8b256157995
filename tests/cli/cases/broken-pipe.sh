# The reader leaves before anything is written: killed by SIGPIPE (141), silently.
set +o pipefail
mkfifo pipe
{ exec 3<pipe; exec 3<&-; } & 
exec 4>pipe
wait
gpt2 --help >&4
