"""From links to documents: links -> fetch -> extract -> dedup, as WebText was made (Radford et al. 2019, 2.1)."""
