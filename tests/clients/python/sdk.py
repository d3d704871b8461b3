"""What the programs share that call Rota through an SDK as an application would.

Each reads a request a line from its input, as JSON, and answers each with one line of JSON. A request says where (`base`,
`token`, `model`), what (`ask`, one of ASKS, or a name that the program adds), whether as a `stream`, and the SDK's own
`retries` and `timeout`, which are the SDK's defaults where they are absent. An answer holds what the SDK made of it: `text`,
`calls`, `reasoning`, `finish`, `usage`, in a stream also `pieces` of text and `times` in seconds at which they came; or
`error`; and in any case how long it `took`.
"""

import json
import sys
import time

ASKS = ["text", "tool", "tools", "image", "object", "reasoning"]

# The smallest PNG: one transparent pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="

# The words that `src/scripted/dialect.rs` knows.
PROMPTS = {"tools": "call every tool", "object": "answer in JSON"}

SCHEMA = {
    "type": "object",
    "properties": {"said": {"type": "string"}},
    "required": ["said"],
    "additionalProperties": False,
}
PARAMETERS = {"type": "object", "properties": {"place": {"type": "integer"}}}


def prompt(asked):
    return asked.get("prompt") or PROMPTS.get(asked["ask"], "hi")


def tools(asked):
    """The names of the tools that the request brings."""
    return {"tool": ["weather"], "tools": ["weather", "clock"]}.get(asked["ask"], [])


class Told(dict):
    """An answer while it is made."""

    def __init__(self):
        super().__init__()
        self.began = time.monotonic()

    def piece(self, text):
        """Notes a piece of text as it comes."""
        if text:
            self.setdefault("pieces", []).append(text)
            self.setdefault("times", []).append(time.monotonic() - self.began)

    def call(self, name, arguments):
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        self.setdefault("calls", []).append({"name": name, "arguments": arguments})

    def usage(self, given, given_out, cached, reasoning):
        self["usage"] = {"input": given, "output": given_out, "cached": cached or 0, "reasoning": reasoning or 0}


def described(error):
    """What an application can learn of an SDK's error."""
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or {}
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else {}
    inner = inner if isinstance(inner, dict) else {}
    status = getattr(error, "status_code", None)
    if status is None:
        status = getattr(error, "code", None)
    return {
        "class": type(error).__name__,
        "status": status if isinstance(status, int) else None,
        "type": inner.get("type") or getattr(error, "status", None),
        "code": inner.get("code"),
        "param": inner.get("param"),
        "message": str(error),
        "headers": {name.lower(): value for name, value in dict(headers).items()},
    }


def main(**functions):
    """Answers requests until the input ends. A function takes the request and its `Told`."""
    # What an SDK prints by itself must not stand among the answers.
    out, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        asked, told = json.loads(line), Told()
        try:
            functions[asked.get("api", "chat")](asked, told)
        except Exception as error:
            told["error"] = described(error)
        told["took"] = time.monotonic() - told.began
        print(json.dumps(told), file=out, flush=True)
