"""Anthropic's own client against a scripted upstream: see vendor.py."""

import anthropic
from anthropic import Anthropic

from vendor import IN_BAND, KEY, SAID, main, raises, same

HI = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
TOOLS = [{"name": "weather", "input_schema": {"type": "object"}}]
USAGE = (8, 2, 3)


def client(origin, key=KEY):
    return Anthropic(base_url=origin, api_key=key, max_retries=0)


def figures(usage):
    return usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens


def messages(origin):
    reply = client(origin).messages.create(**HI)
    same("answer", (reply.model, reply.content[0].text, reply.stop_reason), ("m", SAID, "end_turn"))
    same("usage", figures(reply.usage), USAGE)


def streams(origin):
    with client(origin).messages.stream(**HI) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    same("text", (text, final.content[0].text, final.stop_reason), (SAID, SAID, "end_turn"))
    same("usage", figures(final.usage), USAGE)
    kinds = [event.type for event in client(origin).messages.create(**HI, stream=True)]
    same("first and last event", (kinds[0], kinds[-1]), ("message_start", "message_stop"))


def tools(origin):
    reply = client(origin).messages.create(**HI, tools=TOOLS)
    block = reply.content[0]
    same("tool call", (reply.stop_reason, block.type, block.name, block.input), ("tool_use", "tool_use", "weather", {}))
    with client(origin).messages.stream(**HI, tools=TOOLS) as stream:
        final = stream.get_final_message()
    same("streamed tool call", (final.stop_reason, final.content), ("tool_use", reply.content))
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}]}
    asked = {"role": "assistant", "content": reply.content}
    reply = client(origin).messages.create(**HI | {"messages": HI["messages"] + [asked, result]}, tools=TOOLS)
    same("answer after the tool", reply.content[0].text, SAID)


def counts(origin):
    counted = client(origin).messages.count_tokens(model="m", messages=HI["messages"])
    same("tokens", counted.input_tokens, 10)


def models(origin):
    same("models", [model.id for model in client(origin).models.list()], ["scripted"])


def errors(origin):
    for status, expected, kind in [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
    ]:
        refused = client(origin, f"key-{status}")
        error = raises(f"status {status}", expected, lambda: refused.messages.create(**HI))
        same(f"status {status}", (error.status_code, error.body["error"]["type"]), (status, kind))
    # A class of its own, which the client does not export.
    overloaded = client(origin, "key-529")
    try:
        overloaded.messages.create(**HI)
    except anthropic.APIStatusError as error:
        same("status 529", (error.status_code, error.body["error"]["type"]), (529, "overloaded_error"))
    else:
        same("status 529", "nothing raised", "an error")
    stream = client(origin, IN_BAND).messages.create(**HI, stream=True)
    try:
        list(stream)
    except anthropic.APIStatusError as error:
        same("in the stream", error.body["error"]["type"], "overloaded_error")
    else:
        same("in the stream", "nothing raised", "an error")


main(messages, streams, tools, counts, models, errors)
