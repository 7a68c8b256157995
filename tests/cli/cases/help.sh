# The table of commands, in pipeline order and by group.
gpt2 --help
