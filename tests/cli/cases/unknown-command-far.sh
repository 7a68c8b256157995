gpt2 qqqqq
