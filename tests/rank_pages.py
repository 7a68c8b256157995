"""Pages of `gpt2 detect show` for tests, text that would do harm, and the colours that the style names."""

from __future__ import annotations

import re
from pathlib import Path

from gpt2cli.detection.rank_page import PageSink
from gpt2cli.detection.ranks import RankConfig, rank_texts
from gpt2cli.reporter import Silent
from gpt2cli.sampling.open_model import ModelChoice

HOSTILE = (
    "<script>alert(1)</script></style></title></span></div><img src=x onerror=alert(2)><svg onload=alert(3)>\n"
    "\"' onmouseover='alert(4)' style=\"x\" ]]> --> <!-- &lt; &#x3c;script&#x3e; {{7*7}} ${alert(5)} </script\n"
    "javascript:alert(6) <a href='http://203.0.113.7/'>x</a> <base href=//203.0.113.7> \\u003c\n"
    "nul \x00 escape \x1b[31m bidi \u202ereversed\u202c \u2066isolate\u2069 lines \u2028 \u2029 feff \ufeff caf\u00e9 "
    "\u65e5\u672c\u8a9e \U0001f600 \u0627\u0644\u0639\n<meta http-equiv=refresh content=0;url=http://203.0.113.7>\r\n")
THEMES = re.findall(r"--paper: (#\w+); --ink: (#\w+).*?--a: (#\w{6}); --b: (#\w{6}); --c: (#\w{6}); --d: (#\w{6})",
                    (Path(__file__).parents[1] / "gpt2cli/detection/page/gltr.css").read_text(), re.DOTALL)
"""Paper, ink and the four classes: of the light theme, the dark one, and of paper."""


def make_page(directory: Path, text: bytes, folder: Path, **options: int) -> str:
    """Return the page of `text` under the model in `directory`, which is folder/page.html too."""
    source, page = folder / "text", folder / "page.html"
    source.write_bytes(text)
    with page.open("wb") as stream:
        rank_texts(RankConfig(ModelChoice(str(directory)), (str(source),), "text"),
                   [PageSink(stream, options.get("max_tokens", 20_000))], Silent())
    return page.read_text(encoding="utf-8")
