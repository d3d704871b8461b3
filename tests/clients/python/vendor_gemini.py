"""Google's own client against a scripted upstream: see vendor.py."""

from functools import cache

from google import genai
from google.genai import errors, types

from vendor import FRAMINGS, IN_BAND, KEY, LOOP, SAID, main, raises, same

HI = {"model": "m", "contents": "hi"}
WEATHER = {"name": "weather", "parameters_json_schema": {"type": "object"}}
TOOLS = {"tools": [{"function_declarations": [WEATHER]}]}
USAGE = (10, 2, 2, 1, 13)


@cache  # One that is forgotten closes its connections, even under a stream.
def client(origin, key=KEY):
    once = types.HttpRetryOptions(attempts=1)
    options = types.HttpOptions(base_url=origin, api_version="v1beta", retry_options=once)
    return genai.Client(api_key=key, http_options=options)


def figures(usage):
    return (
        usage.prompt_token_count,
        usage.cached_content_token_count,
        usage.candidates_token_count,
        usage.thoughts_token_count,
        usage.total_token_count,
    )


def answers(origin):
    reply = client(origin).models.generate_content(**HI)
    reason = reply.candidates[0].finish_reason
    same("answer", (reply.model_version, reply.text, reason), ("m", SAID, types.FinishReason.STOP))
    same("usage", figures(reply.usage_metadata), USAGE)


def streams(origin):
    chunks = list(client(origin).models.generate_content_stream(**HI))
    same("text", "".join(chunk.text or "" for chunk in chunks), SAID)
    same("end", chunks[-1].candidates[0].finish_reason, types.FinishReason.STOP)
    same("usage", figures(chunks[-1].usage_metadata), USAGE)


def tools(origin):
    google = client(origin)
    reply = google.models.generate_content(**HI, config=TOOLS)
    [call] = reply.function_calls
    same("tool call", (call.name, call.args), ("weather", {}))
    chunks = list(google.models.generate_content_stream(**HI, config=TOOLS))
    same("streamed tool call", [call for chunk in chunks for call in chunk.function_calls or []], [call])
    asked = reply.candidates[0].content
    result = types.Content(
        role="user", parts=[types.Part.from_function_response(name=call.name, response={"output": "sunny"})]
    )
    hi = types.Content(role="user", parts=[types.Part.from_text(text="hi")])
    reply = google.models.generate_content(model="m", contents=[hi, asked, result], config=TOOLS)
    same("answer after the tool", reply.text, SAID)


def thinks(origin):
    """A loop of tools: each call goes back with the signature that stands at it, and one without is refused."""
    google = client(origin).models
    declared = [{"name": name, "parameters_json_schema": {"type": "object"}} for name in LOOP]
    config = {"tools": [{"function_declarations": declared}], "thinking_config": {"include_thoughts": True}}
    contents = [types.Content(role="user", parts=[types.Part.from_text(text="hi")])]
    for name in LOOP:
        asked = google.generate_content(model="m", contents=contents, config=config).candidates[0].content
        thought, call = asked.parts
        same("thought", (thought.thought, bool(thought.text)), (True, True))
        same("call", (call.function_call.name, bool(call.thought_signature)), (name, True))
        chunks = list(google.generate_content_stream(model="m", contents=contents, config=config))
        parts = [part for chunk in chunks for part in chunk.parts or [] if part.function_call]
        same("streamed call", parts, [call])
        result = types.Part.from_function_response(name=name, response={"output": "done"})
        contents += [types.Content(role="model", parts=[call]), types.Content(role="user", parts=[result])]
    same("answer after the tools", google.generate_content(model="m", contents=contents, config=config).text, SAID)
    parts = [
        part
        for chunk in google.generate_content_stream(model="m", contents=contents, config=config)
        for part in chunk.parts or []
    ]
    same("signature behind a text", (parts[-1].text, bool(parts[-1].thought_signature)), ("", True))
    call = contents[1].parts[0]
    for signature in [None, b"other"]:
        altered = call.model_copy(update={"thought_signature": signature})
        wrong = [contents[0], types.Content(role="model", parts=[altered]), *contents[2:]]
        again = lambda: google.generate_content(model="m", contents=wrong, config=config)
        error = raises("without its signature", errors.ClientError, again)
        same("status", (error.code, error.status), (400, "INVALID_ARGUMENT"))


def framings(origin):
    for framing in FRAMINGS + ["EmptyErrors"]:
        key = f"key-{framing}"
        chunks = client(origin, key).models.generate_content_stream(**HI)
        same(framing, "".join(chunk.text or "" for chunk in chunks), f"served by {key}")
    for form in ["Bare", "BareLine"]:
        refused = client(origin, f"key-{form}").models
        error = raises(form, errors.ServerError, lambda: list(refused.generate_content_stream(**HI)))
        same(form, (error.code, error.status), (503, "UNAVAILABLE"))


def embeddings(origin):
    reply = client(origin).models.embed_content(model="m", contents=["one", "three"])
    same("vectors", [vector.values for vector in reply.embeddings], [[3, 0, 1], [5, 1, 1]])


def counts(origin):
    same("tokens", client(origin).models.count_tokens(**HI).total_tokens, 10)


def models(origin):
    same("models", [model.name for model in client(origin).models.list()], ["models/scripted"])


def failures(origin):
    for status, expected, name in [
        (400, errors.ClientError, "INVALID_ARGUMENT"),
        (401, errors.ClientError, "UNAUTHENTICATED"),
        (403, errors.ClientError, "PERMISSION_DENIED"),
        (404, errors.ClientError, "NOT_FOUND"),
        (429, errors.ClientError, "RESOURCE_EXHAUSTED"),
        (500, errors.ServerError, "INTERNAL"),
        (503, errors.ServerError, "UNAVAILABLE"),
    ]:
        refused = client(origin, f"key-{status}").models
        error = raises(f"status {status}", expected, lambda: refused.generate_content(**HI))
        same(f"status {status}", (error.code, error.status), (status, name))
    refused = client(origin, IN_BAND).models
    error = raises("in the stream", errors.ServerError, lambda: list(refused.generate_content_stream(**HI)))
    same("in the stream", (error.code, error.status), (503, "UNAVAILABLE"))


main(answers, streams, tools, thinks, framings, embeddings, counts, models, failures)
