# No command at all: the help, but on standard error, and a usage error.
gpt2
