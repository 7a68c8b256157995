# Standard error closed: the data still comes.
gpt2 --version 2>&-
