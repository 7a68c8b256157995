"""What counts as a near duplicate, as data: shingles, bands of a MinHash signature, and the least similarity.

Two documents whose sets of word n-grams have the Jaccard similarity J agree in all `rows` values of one of `bands`
bands with probability 1 - (1 - J^rows)^bands; of those that do, the pairs above `similarity` are duplicates.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class DedupProfile:
    """Words in a shingle, bands and rows of the signature, and the Jaccard similarity above which two documents match.

    No bands: only exact duplicates are found.
    """

    ngram: int
    bands: int
    rows: int
    similarity: float

    @property
    def values(self) -> int:
        """Return how many values a signature has."""
        return self.bands * self.rows

    def candidate_probability(self, jaccard: float) -> float:
        """Return the probability that two documents of this similarity share a band."""
        return float(1 - (1 - jaccard**self.rows) ** self.bands)


DEDUP_PROFILES = MappingProxyType(
    {
        # OpenWebText: 5-grams, Jaccard above 0.5 (Gokaslan and Cohen 2019); 32 x 4 finds .9 of the pairs at .51
        "openwebtext": DedupProfile(ngram=5, bands=32, rows=4, similarity=0.5),
        # FineWeb: 14 bands of 8 of 5-grams (Penedo et al. 2024), aimed at .75; a band in common by chance is refused
        "fineweb": DedupProfile(ngram=5, bands=14, rows=8, similarity=0.5),
        "exact": DedupProfile(ngram=5, bands=0, rows=0, similarity=1.0),
    }
)
