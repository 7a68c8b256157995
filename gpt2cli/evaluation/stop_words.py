"""English function words, which a stop-word filter rules out as the last word of a passage. An own list."""

from __future__ import annotations

STOP_WORDS = frozenset("""
a about above after again against all almost alone along already also although always am among an and another any
anybody anyone anything are aren't around as at away be became because become been before behind being below between
both but by can can't cannot could couldn't did didn't do does doesn't doing don't done down during each either else
enough even ever every everybody everyone everything few for from further get gets give given go goes going got had
hadn't has hasn't have haven't having he he'd he'll he's her here here's hers herself him himself his how however i
i'd i'll i'm i've if in instead into is isn't it it'd it'll it's its itself just least less let let's like made make
many may maybe me might mine more most much must my myself near need neither never next no nobody none nor not nothing
now of off often on once one only onto or other others our ours ourselves out over own perhaps put quite rather really
said same say says see seem seemed seems several shall she she'd she'll she's should shouldn't since so some somebody
someone something sometimes somewhere still such take than that that's the their theirs them themselves then there
there's these they they'd they'll they're they've this those though through thus to together too toward towards under
until up upon us used very was wasn't we we'd we'll we're we've well went were weren't what what's when where whether
which while who who's whole whom whose why will with within without won't would wouldn't yes yet you you'd you'll
you're you've your yours yourself yourselves
""".split())  # noqa: SIM905
