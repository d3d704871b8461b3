"""OpenAI's SDK: chat, Responses and what else it calls. See sdk.py."""

from functools import cache

import openai

import sdk


@cache
def client(base, token, options):
    return openai.OpenAI(base_url=f"{base}/v1", api_key=token, **dict(options))


def of(asked):
    names = {"retries": "max_retries", "timeout": "timeout", "headers": "default_headers"}
    options = {names[name]: asked[name] for name in names if name in asked}
    if "default_headers" in options:
        return openai.OpenAI(base_url=f"{asked['base']}/v1", api_key=asked["token"], **options)
    return client(asked["base"], asked["token"], tuple(options.items()))


def request(asked):
    text = sdk.prompt(asked)
    content = text
    if asked["ask"] == "image":
        url = f"data:image/png;base64,{sdk.PNG}"
        content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
    fields = {"model": asked["model"], "messages": [{"role": "user", "content": content}]}
    if names := sdk.tools(asked):
        fields["tools"] = [
            {"type": "function", "function": {"name": name, "parameters": sdk.PARAMETERS}} for name in names
        ]
    if asked["ask"] == "object":
        schema = {"name": "answer", "schema": sdk.SCHEMA, "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    if asked["ask"] == "reasoning":
        fields["reasoning_effort"] = "low"
    return fields | asked.get("fields", {})


def chat(asked, told):
    completions = of(asked).chat.completions
    if asked.get("stream"):
        with completions.stream(**request(asked), stream_options={"include_usage": True}) as stream:
            for event in stream:
                if event.type == "content.delta":
                    told.piece(event.delta)
            answer = stream.get_final_completion()
    else:
        raw = completions.with_raw_response.create(**request(asked))
        told["headers"] = {name.lower(): value for name, value in raw.headers.items()}
        answer = raw.parse()
    choice = answer.choices[0]
    extra = choice.message.model_extra or {}
    told["text"] = choice.message.content or ""
    told["finish"] = choice.finish_reason
    told["model"] = answer.model
    told["reasoning"] = extra.get("reasoning_content") or extra.get("reasoning") or ""
    for call in choice.message.tool_calls or []:
        told.call(call.function.name, call.function.arguments)
    if usage := answer.usage:
        cached = usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens
        thought = usage.completion_tokens_details and usage.completion_tokens_details.reasoning_tokens
        told.usage(usage.prompt_tokens, usage.completion_tokens, cached, thought)


def chunks(asked, told):
    """A stream without the accumulator, for what came of one that breaks."""
    for chunk in of(asked).chat.completions.create(**request(asked), stream=True):
        for choice in chunk.choices:
            told.piece(choice.delta.content)
            if choice.finish_reason:
                told["finish"] = choice.finish_reason
        told["model"] = chunk.model
    told["text"] = "".join(told.get("pieces", []))


def responses(asked, told):
    content = [{"type": "input_text", "text": sdk.prompt(asked)}]
    if asked["ask"] == "image":
        url = f"data:image/png;base64,{sdk.PNG}"
        content.append({"type": "input_image", "image_url": url, "detail": "auto"})
    fields = {"model": asked["model"], "input": [{"role": "user", "content": content}]}
    if names := sdk.tools(asked):
        fields["tools"] = [
            {"type": "function", "name": name, "parameters": sdk.PARAMETERS, "strict": False} for name in names
        ]
    if asked["ask"] == "object":
        schema = {"type": "json_schema", "name": "answer", "schema": sdk.SCHEMA, "strict": True}
        fields["text"] = {"format": schema}
    if asked["ask"] == "reasoning":
        fields |= {"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}
    fields |= asked.get("fields", {})
    if asked.get("stream"):
        with of(asked).responses.stream(**fields) as stream:
            for event in stream:
                if event.type == "response.output_text.delta":
                    told.piece(event.delta)
                # The SDK raises nothing for these, and then misses the end.
                if event.type == "error":
                    told["failed"] = event.message
                if event.type == "response.failed":
                    told["failed"] = event.response.error.message
            answer = stream.get_final_response()
    else:
        raw = of(asked).responses.with_raw_response.create(**fields)
        told["headers"], answer = dict(raw.headers), raw.parse()
    told["text"] = answer.output_text
    told["finish"] = answer.status
    told["model"] = answer.model
    told["reasoning"] = ""
    for item in answer.output:
        if item.type == "function_call":
            told.call(item.name, item.arguments)
        if item.type == "reasoning":
            told["reasoning"] += "".join(part.text for part in item.summary)
    if usage := answer.usage:
        details = usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens
        told.usage(usage.input_tokens, usage.output_tokens, *details)


def other(asked, told):
    """The other endpoints; `ask` is which."""
    openai_, model = of(asked), asked["model"]
    match asked["ask"]:
        case "embeddings":
            reply = openai_.embeddings.create(model=model, input=["a", "three"])
            told["vectors"] = [each.embedding for each in reply.data]
        case "moderations":
            told["flagged"] = openai_.moderations.create(model=model, input="violence").results[0].flagged
        case "transcriptions":
            told["text"] = openai_.audio.transcriptions.create(model=model, file=("hello.mp3", b"sound")).text
        case "translations":
            told["text"] = openai_.audio.translations.create(model=model, file=("hello.mp3", b"sound")).text
        case "speech":
            spoken = openai_.audio.speech.create(model=model, voice="alloy", input="hi")
            told["text"] = spoken.read().decode("latin-1")
        case "images":
            told["text"] = openai_.images.generate(model=model, prompt="hi").data[0].b64_json
        case "completions":
            told["text"] = openai_.completions.create(model=model, prompt="hi").choices[0].text
        case "rerank":
            fields = {"model": model, "query": "hi", "documents": ["a", "three"]}
            told["results"] = openai_.post("/rerank", cast_to=object, body=fields)["results"]
        case "models":
            told["models"] = [each.id for each in openai_.models.list()]
        case "model":
            told["models"] = [openai_.models.retrieve(model).id]


if __name__ == "__main__":
    sdk.main(chat=chat, chunks=chunks, responses=responses, other=other)
