"""Hosts whose pages never enter, as data. WebText's own domain list (published top 1,000) decides doubtful cases.

That list has google, github, ebay, apple, archive, blogspot and pastebin, so none of these may ever be added here,
and it has no wikipedia, youtube, imgur, reddit, twitter or facebook.
"""

from __future__ import annotations

from types import MappingProxyType

WIKIPEDIA = frozenset({"wikipedia.org", "wikipedia.com"})
REDDIT = frozenset({"reddit.com", "redd.it", "redditmedia.com", "redditstatic.com", "redditinc.com"})

_WEBTEXT_MEDIA = frozenset(
    """
    youtube.com youtu.be youtube-nocookie.com imgur.com gfycat.com giphy.com instagram.com instagr.am twitter.com
    facebook.com fb.com fb.me fbcdn.net vimeo.com twitch.tv soundcloud.com spotify.com streamable.com vine.co
    vid.me liveleak.com dailymotion.com flickr.com flic.kr photobucket.com tinypic.com minus.com snapchat.com
    pinterest.com periscope.tv oddshot.tv plays.tv xboxdvr.com gamedvr.com livecap.tv mixcloud.com bandcamp.com
    twimg.com ytimg.com sli.mg imgflip.com quickmeme.com livememe.com memegen.com deviantart.com artstation.com
    """.split()  # noqa: SIM905
)

PROFILES = MappingProxyType({"webtext": _WEBTEXT_MEDIA, "none": frozenset[str]()})
"""Profile -> registrable domains of media hosts; subdomains are meant too."""

MEDIA_SUFFIXES = frozenset(
    """
    jpg jpeg png gif gifv bmp webp svg ico mp3 ogg oga wav flac m4a mp4 m4v webm mkv avi mov wmv flv
    zip rar 7z gz bz2 xz tar exe dmg apk iso torrent
    """.split()  # noqa: SIM905
)
"""File name endings in a URL's path that no page has."""


def exclusion(host: str, profile: str) -> str | None:
    """Return why pages of `host` (lower case) are left out: "wikipedia", "reddit", "media host"; None to keep."""
    media = PROFILES[profile]
    labels = host.rstrip(".").split(".")
    for start in range(len(labels) - 1):
        domain = ".".join(labels[start:])
        if domain in WIKIPEDIA:
            return "wikipedia"
        if domain in REDDIT:
            return "reddit"
        if domain in media:
            return "media host"
    return None


def media_file(path: str) -> bool:
    """Return whether a URL path names an image, sound, video or archive file."""
    name = path.rsplit("/", 1)[-1]
    return "." in name and name.rsplit(".", 1)[-1].lower() in MEDIA_SUFFIXES
