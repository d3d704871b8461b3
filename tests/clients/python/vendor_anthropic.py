"""Anthropic's own client against a scripted upstream: see vendor.py."""

import anthropic
from anthropic import Anthropic

from vendor import FRAMINGS, IN_BAND, KEY, LOOP, SAID, main, raises, same

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


def thinks(origin):
    """A loop of tools: what was thought goes back with its signature, and a round without it is refused."""
    thinking = {"type": "enabled", "budget_tokens": 1024}
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in LOOP]
    request = HI | {"max_tokens": 2048, "thinking": thinking, "tools": tools}
    for streamed in [False, True]:
        messages = list(HI["messages"])
        for name in LOOP:
            if streamed:
                with client(origin).messages.stream(**request | {"messages": messages}) as stream:
                    reply = stream.get_final_message()
            else:
                reply = client(origin).messages.create(**request | {"messages": messages})
            thought, *_, call = reply.content
            same("thinking", (thought.type, bool(thought.thinking), bool(thought.signature)), ("thinking", True, True))
            same("call", (reply.stop_reason, call.type, call.name), ("tool_use", "tool_use", name))
            result = {"type": "tool_result", "tool_use_id": call.id, "content": "done"}
            messages += [{"role": "assistant", "content": reply.content}, {"role": "user", "content": [result]}]
        kinds = [block.type for block in messages[3]["content"]]
        same("second round", kinds, ["thinking", "redacted_thinking", "tool_use"])
        reply = client(origin).messages.create(**request | {"messages": messages})
        same("answer after the tools", reply.content[-1].text, SAID)
        for lost in [1, 5]:
            cut = list(messages)
            cut[lost] = cut[lost] | {"content": cut[lost]["content"][1:]}
            without = request | {"messages": cut}
            error = raises("without thinking", anthropic.BadRequestError, lambda: client(origin).messages.create(**without))
            same("why", "Expected `thinking` or `redacted_thinking`" in error.body["error"]["message"], True)
        changed = messages[5]["content"][0].model_copy(update={"thinking": "other"})
        messages[5] = messages[5] | {"content": [changed, *messages[5]["content"][1:]]}
        altered = request | {"messages": messages}
        raises("altered thinking", anthropic.BadRequestError, lambda: client(origin).messages.create(**altered))


def framings(origin):
    for framing in FRAMINGS + ["NoSpace", "ByteOrderMark", "Done", "Heartbeats", "EmptyErrors"]:
        key = f"key-{framing}"
        with client(origin, key).messages.stream(**HI) as stream:
            same(framing, "".join(stream.text_stream), f"served by {key}")
    try:
        list(client(origin, "key-Named").messages.create(**HI, stream=True))
    except anthropic.APIStatusError as error:
        same("an error of its own event", error.body["type"], "overloaded_error")
    else:
        same("an error of its own event", "nothing raised", "an error")


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


main(messages, streams, tools, thinks, framings, counts, models, errors)
