"""One file per command: options become one frozen dataclass and one call. The only place with click and rich."""
