gpt2 help recrods --path
