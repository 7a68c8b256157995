# The completion script asks the command itself.
COMP_WORDS='gpt2 tra' COMP_CWORD=1 _GPT2_COMPLETE=bash_complete gpt2
