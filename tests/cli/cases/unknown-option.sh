gpt2 help --pth
