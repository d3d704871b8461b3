"""OpenAI's own client, and its one for Azure, against a scripted upstream: see vendor.py."""

from functools import partial

import openai
from openai import AzureOpenAI, OpenAI

from vendor import FRAMINGS, IN_BAND, KEY, LOOP, SAID, main, raises, same

HI = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
USAGE = (10, 3, 13, 2, 1)


def client(origin, key=KEY):
    return OpenAI(base_url=f"{origin}/v1", api_key=key, max_retries=0)


def figures(usage):
    details = usage.prompt_tokens_details.cached_tokens, usage.completion_tokens_details.reasoning_tokens
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, *details


def chats(client):
    reply = client.chat.completions.create(model="m", messages=HI)
    choice = reply.choices[0]
    same("answer", (reply.model, choice.message.content, choice.finish_reason), ("m", SAID, "stop"))
    same("usage", figures(reply.usage), USAGE)

    text, finish, usage = "", [], []
    options = {"include_usage": True}
    for chunk in client.chat.completions.create(model="m", messages=HI, stream=True, stream_options=options):
        usage += [chunk.usage] if chunk.usage else []
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish += [choice.finish_reason] if choice.finish_reason else []
    same("streamed answer", (text, finish), (SAID, ["stop"]))
    same("streamed usage", [figures(each) for each in usage], [USAGE])


def tools(client):
    reply = client.chat.completions.create(model="m", messages=HI, tools=TOOLS)
    choice = reply.choices[0]
    function = choice.message.tool_calls[0].function
    same("tool call", (choice.finish_reason, function.name, function.arguments), ("tool_calls", "weather", "{}"))

    # The client puts the pieces together.
    with client.chat.completions.stream(model="m", messages=HI, tools=TOOLS) as stream:
        final = stream.get_final_completion().choices[0]
    call = final.message.tool_calls[0]
    same("streamed tool call", (call.id, call.function.name, call.function.arguments), ("call_1", "weather", "{}"))

    messages = HI + [choice.message, {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]
    reply = client.chat.completions.create(model="m", messages=messages, tools=TOOLS)
    same("answer after the tool", reply.choices[0].message.content, SAID)


def openai_chats(origin):
    chats(client(origin))


def openai_tools(origin):
    tools(client(origin))


def sent(item):
    """Without what the client adds to an item of a stream."""
    item = {name: value for name, value in item.items() if name not in ("parsed", "parsed_arguments")}
    if isinstance(item.get("content"), list):
        item["content"] = [sent(part) for part in item["content"]]
    return item


def openai_responses(origin):
    tools = [{"type": "function", "name": name, "parameters": {"type": "object"}} for name in ["weather", "clock"]]
    reasons = {"reasoning": {"effort": "low"}}
    for prompt, more, kinds in [
        ("hi", {}, ["message"]),
        ("hi", reasons, ["reasoning", "message"]),
        ("call every tool", {"tools": tools}, ["function_call", "function_call"]),
    ]:
        whole = client(origin).responses.create(model="m", input=prompt, **more)
        with client(origin).responses.stream(model="m", input=prompt, **more) as stream:
            numbers = [event.sequence_number for event in stream]
            final = stream.get_final_response()
        same("items", [item.type for item in whole.output], kinds)
        same("streamed answer", [sent(item.to_dict()) for item in final.output], [item.to_dict() for item in whole.output])
        same("numbers", numbers, list(range(len(numbers))))
        same("text", whole.output_text, SAID if "message" in kinds else "")
        same("usage", (final.usage.input_tokens, final.usage.output_tokens, final.usage.total_tokens), USAGE[:3])
    # This client raises nothing for an error that is an event.
    *_, last = client(origin, IN_BAND).responses.create(model="m", input="hi", stream=True)
    same("in the stream", (last.type, last.message), ("error", "busy"))


def openai_texts(origin):
    reply = client(origin).embeddings.create(model="m", input=["a", "three"])
    same("embeddings", [each.embedding for each in reply.data], [[1, 0, 1], [5, 1, 1]])
    same("usage", (reply.usage.prompt_tokens, reply.usage.total_tokens), (2, 2))
    for text, flagged in [("peace", False), ("violence", True)]:
        result = client(origin).moderations.create(model="m", input=text).results[0]
        same(text, (result.flagged, result.categories.violence), (flagged, flagged))


def openai_speech(origin):
    said = client(origin).audio.transcriptions.create(model="m", file=("hello.mp3", b"sound"))
    same("transcription", said.text, "hello.mp3")
    spoken = client(origin).audio.speech.create(model="m", voice="alloy", input="hi")
    same("speech", spoken.read(), b"ID3" + SAID.encode())
    with client(origin).audio.speech.with_streaming_response.create(model="m", voice="alloy", input="hi") as spoken:
        same("streamed speech", b"".join(spoken.iter_bytes()), b"ID3" + SAID.encode())


def openai_models(origin):
    same("models", [model.id for model in client(origin).models.list()], ["scripted"])


def openai_errors(origin):
    for status, expected in [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ]:
        refused = client(origin, f"key-{status}")
        error = raises(f"status {status}", expected, lambda: refused.chat.completions.create(model="m", messages=HI))
        same(f"status {status}", error.status_code, status)
        same(f"status {status}", bool(error.body["message"] and error.body["type"]), True)
    stream = client(origin, IN_BAND).chat.completions.create(model="m", messages=HI, stream=True)
    error = raises("in the stream", openai.APIError, lambda: list(stream))
    same("in the stream", error.message, "busy")


def openai_framings(origin):
    for framing in FRAMINGS + ["NoSpace", "ByteOrderMark", "Done"]:
        key = f"key-{framing}"
        chunks = client(origin, key).chat.completions.create(model="m", messages=HI, stream=True)
        same(framing, "".join(chunk.choices[0].delta.content or "" for chunk in chunks), f"served by {key}")


def openai_reasoning(origin):
    """What DeepSeek and OpenRouter add is no field of this client; it hands it on, and sends it back."""
    tools = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in LOOP]
    for asked, fields in [
        ({"thinking": {"type": "enabled"}}, ["reasoning_content"]),
        ({"reasoning": {"effort": "low"}}, ["reasoning", "reasoning_details"]),
    ]:
        chat = partial(client(origin).chat.completions.create, model="m", tools=tools, extra_body=asked)
        messages = list(HI)
        for name in LOOP:
            message = chat(messages=messages).choices[0].message
            same("call", message.tool_calls[0].function.name, name)
            same("fields", [field in message.model_extra for field in fields], [True] * len(fields))
            messages.append(message.to_dict())
            messages.append({"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "done"})
        same("answer after the tools", chat(messages=messages).choices[0].message.content, SAID)
        del messages[1][fields[-1]]
        raises("without the reasoning", openai.BadRequestError, lambda: chat(messages=messages))


def azure(origin):
    client = AzureOpenAI(azure_endpoint=origin, api_key=KEY, api_version="2024-10-21", max_retries=0)
    chats(client)
    tools(client)
    same("embeddings", client.embeddings.create(model="m", input="a").data[0].embedding, [1, 0, 1])
    refused = client.with_options(api_key="key-429")
    raises("status 429", openai.RateLimitError, lambda: refused.chat.completions.create(model="m", messages=HI))


main(openai_chats, openai_tools, openai_responses, openai_texts, openai_speech, openai_models, openai_errors, openai_framings, openai_reasoning, azure)
