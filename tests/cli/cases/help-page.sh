# A pipe as standard output: man formats the page without a pager.
MANWIDTH=80 gpt2 help
