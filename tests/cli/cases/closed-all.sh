# All three closed: no crash, no file opened in their place.
gpt2 trian <&- >&- 2>&-
