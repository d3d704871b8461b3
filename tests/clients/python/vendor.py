"""What the checks of the vendors' own clients share. Each is started with the origin of a scripted upstream.

The upstream serves the key KEY well and names it in its answer, fails for `key-STATUS` with that status, and for
IN_BAND reports an error in the middle of a stream. For `key-FRAMING` it puts a good stream otherwise than the protocol's
page says, and for `key-FORM` the error in a stream: see `src/scripted/framing.rs`. Each client reads some of them.
"""

import sys

KEY = "key-good"
IN_BAND = "key-in-band"
SAID = f"served by {KEY}"


# What every client reads.
FRAMINGS = ["CrLf", "Cr", "Bytes", "Unterminated", "EndsTwice"]

# The tools of a loop with thinking on: the model calls each of them once, one a round.
LOOP = ["first", "second", "third"]


class Wrong(Exception):
    """What was seen is not what was promised."""


def same(what, seen, expected):
    if seen != expected:
        raise Wrong(f"{what}: {seen!r} instead of {expected!r}")


def raises(what, expected, call):
    """Fails unless the call raises exactly that class."""
    try:
        call()
    except expected as error:
        same(what, type(error), expected)
        return error
    raise Wrong(f"{what}: nothing raised instead of {expected.__name__}")


def main(*checks):
    """Runs each check with the origin; says what is wrong and exits 1."""
    try:
        for check in checks:
            check(sys.argv[1])
    except Wrong as wrong:
        sys.exit(f"{check.__name__}: {wrong}")
    print(f"{len(checks)} checks hold")
