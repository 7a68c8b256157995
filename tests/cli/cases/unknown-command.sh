# A misspelt command suggests the nearest.
gpt2 trian
