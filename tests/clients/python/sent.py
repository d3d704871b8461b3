"""Whether a vendor's own client takes bodies for requests to its vendor: `sent.py KIND BODIES`, the bodies as a JSON list.

Google's types refuse what they do not know. Anthropic's are read by its client's own models of each block, with no key
beside those that they name.
"""

import json
import sys
import typing

from anthropic import types as anthropic
from google.genai import types as google
from pydantic import TypeAdapter

from vendor import Wrong

BLOCKS = {
    "text": anthropic.TextBlockParam,
    "thinking": anthropic.ThinkingBlockParam,
    "redacted_thinking": anthropic.RedactedThinkingBlockParam,
    "tool_use": anthropic.ToolUseBlockParam,
    "tool_result": anthropic.ToolResultBlockParam,
}


def strictly(kind, value):
    """Reads a value as that `TypedDict`; a key that it does not name is wrong."""
    unknown = set(value) - set(typing.get_type_hints(kind))
    if unknown:
        raise Wrong(f"{kind.__name__} has no {unknown}")
    TypeAdapter(kind).validate_python(value)


def to_anthropic(body):
    names = set(typing.get_type_hints(anthropic.message_create_params.MessageCreateParamsBase)) | {"stream"}
    if set(body) - names:
        raise Wrong(f"the request has no {set(body) - names}")
    strictly(anthropic.ThinkingConfigEnabledParam, body["thinking"])
    for tool in body["tools"]:
        strictly(anthropic.ToolParam, tool)
    for message in body["messages"]:
        content = message["content"]
        for block in [] if isinstance(content, str) else content:
            strictly(BLOCKS[block["type"]], block)


def to_google(body):
    fields = {
        "contents": lambda contents: [google.Content.model_validate(content) for content in contents],
        "tools": lambda tools: [google.Tool.model_validate(tool) for tool in tools],
        "generationConfig": google.GenerationConfig.model_validate,
    }
    for name, value in body.items():
        fields[name](value)


def main():
    kind, bodies = sys.argv[1], json.loads(sys.argv[2])
    read = {"anthropic": to_anthropic, "gemini": to_google}[kind]
    try:
        for body in bodies:
            read(body)
    except Wrong as wrong:
        sys.exit(str(wrong))
    print(f"{len(bodies)} requests are {kind}'s")


main()
