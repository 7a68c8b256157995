"""`python -m gpt2cli` and `torchrun -m gpt2cli`: the same command as bin/gpt2."""

from gpt2cli.cli.main import entry

if __name__ == "__main__":
    entry()
