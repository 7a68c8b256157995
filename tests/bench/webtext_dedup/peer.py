"""What a person would run instead of `dedup`: peer.py DOCUMENTS.jsonl; prints documents kept, seconds without imports.

datasketch as its documentation has it: a MinHash of 128 permutations for each document's set of word 5-grams, put into
MinHashLSH with 32 bands of 4 rows; a document is dropped when one before it is above 0.5. All in memory, one process.
"""

from __future__ import annotations

import json
import re
import sys
import time

from datasketch import MinHash, MinHashLSH

WORD = re.compile(r"[^\W_]+")


def main(path: str) -> None:
    """Count the documents that stay."""
    wall, cpu = time.perf_counter(), time.process_time()
    index = MinHashLSH(num_perm=128, params=(32, 4))
    signatures: list[MinHash] = []
    kept = 0
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file):
            words = WORD.findall(json.loads(line)["text"].lower())
            shingles = {" ".join(words[at : at + 5]).encode() for at in range(max(1, len(words) - 4))}
            signature = MinHash(num_perm=128)
            signature.update_batch(shingles)
            signatures.append(signature)
            near = any(signature.jaccard(signatures[other]) > 0.5 for other in index.query(signature))
            index.insert(number, signature)
            kept += not near
    print(json.dumps({"kept": kept, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}))


if __name__ == "__main__":
    main(sys.argv[1])
