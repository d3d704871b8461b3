"""Cohere's own client against a scripted upstream: see vendor.py."""

import cohere
from cohere import ClientV2

from vendor import FRAMINGS, IN_BAND, KEY, SAID, main, raises, same

HI = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
PLAN = "I will call weather."
USAGE = (10, 3, 4, 3, 2)


def client(origin, key=KEY):
    return ClientV2(base_url=origin, api_key=key, max_retries=0)


def figures(usage):
    used, billed = usage.tokens, usage.billed_units
    return used.input_tokens, used.output_tokens, billed.input_tokens, billed.output_tokens, usage.cached_tokens


def chats(origin):
    reply = client(origin).chat(**HI)
    same("answer", (reply.message.content[0].text, reply.finish_reason), (SAID, "COMPLETE"))
    same("usage", figures(reply.usage), USAGE)


def streams(origin):
    events = list(client(origin).chat_stream(**HI))
    kinds = ["message-start", "content-start"] + 3 * ["content-delta"] + ["content-end", "message-end"]
    same("events", [event.type for event in events], kinds)
    text = "".join(event.delta.message.content.text for event in events if event.type.startswith("content-d"))
    same("text", (text, events[-1].delta.finish_reason), (SAID, "COMPLETE"))
    same("usage", figures(events[-1].delta.usage), USAGE)


def tools(origin):
    reply = client(origin).chat(**HI, tools=TOOLS)
    call = reply.message.tool_calls[0]
    same("tool call", (reply.finish_reason, reply.message.tool_plan), ("TOOL_CALL", PLAN))
    same("function", (call.type, call.function.name, call.function.arguments), ("function", "weather", "{}"))
    plan, name, arguments = "", "", ""
    for event in client(origin).chat_stream(**HI, tools=TOOLS):
        if event.type == "tool-plan-delta":
            plan += event.delta.message.tool_plan
        if event.type == "tool-call-start":
            name += event.delta.message.tool_calls.function.name
        if event.type == "tool-call-delta":
            arguments += event.delta.message.tool_calls.function.arguments
    same("streamed tool call", (plan, name, arguments), (PLAN, "weather", "{}"))
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    reply = client(origin).chat(model="m", messages=HI["messages"] + [reply.message, result], tools=TOOLS)
    same("answer after the tool", reply.message.content[0].text, SAID)


def thinks(origin):
    asked = HI | {"thinking": {"type": "enabled"}}
    thought, said = client(origin).chat(**asked).message.content
    same("thinking", (thought.type, bool(thought.thinking), said.text), ("thinking", True, SAID))
    gains = [event.delta.message.content for event in client(origin).chat_stream(**asked) if event.type == "content-delta"]
    thoughts = "".join(gain.thinking or "" for gain in gains)
    same("streamed", (thoughts, "".join(gain.text or "" for gain in gains)), (thought.thinking, SAID))


def framings(origin):
    for framing in FRAMINGS + ["NoSpace", "ByteOrderMark", "Done", "Heartbeats", "EmptyErrors"]:
        key = f"key-{framing}"
        events = client(origin, key).chat_stream(**HI)
        text = "".join(event.delta.message.content.text for event in events if event.type == "content-delta")
        same(framing, text, f"served by {key}")


def embeds(origin):
    texts = {"texts": ["a", "bb"], "input_type": "search_document", "embedding_types": ["float"]}
    reply = client(origin).embed(model="m", **texts)
    same("vectors", reply.embeddings.float_, [[1, 0, 1], [2, 1, 1]])
    same("tokens", reply.meta.billed_units.input_tokens, 2)


def reranks(origin):
    reply = client(origin).rerank(model="m", query="q", documents=["a", "bb"])
    same("order", [(place.index, place.relevance_score) for place in reply.results], [(0, 0.01), (1, 0.02)])
    same("searches", reply.meta.billed_units.search_units, 1)


def models(origin):
    same("models", [model.name for model in client(origin).models.list(page_size=1).models], ["scripted"])


def errors(origin):
    for status, expected in [
        (400, cohere.BadRequestError),
        (401, cohere.UnauthorizedError),
        (403, cohere.ForbiddenError),
        (404, cohere.NotFoundError),
        (429, cohere.TooManyRequestsError),
        (500, cohere.InternalServerError),
        (503, cohere.ServiceUnavailableError),
    ]:
        refused = client(origin, f"key-{status}")
        error = raises(f"status {status}", expected, lambda: refused.chat(**HI))
        same(f"status {status}", (error.status_code, type(error.body["message"])), (status, str))
    *_, last = client(origin, IN_BAND).chat_stream(**HI)
    same("in the stream", (last.delta.finish_reason, last.delta.error), ("ERROR", "busy"))


main(chats, streams, tools, thinks, framings, embeds, reranks, models, errors)
