"""Byte-level BPE: vocabulary, encoding, training merges, packing shards, data order."""
