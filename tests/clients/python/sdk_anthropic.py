"""Anthropic's SDK. See sdk.py."""

from functools import cache

import anthropic

import sdk


@cache
def client(base, token, options):
    return anthropic.Anthropic(base_url=base, api_key=token, **dict(options))


def of(asked):
    names = {"retries": "max_retries", "timeout": "timeout"}
    options = {names[name]: asked[name] for name in names if name in asked}
    return client(asked["base"], asked["token"], tuple(options.items()))


def request(asked):
    text = sdk.prompt(asked)
    content = text
    if asked["ask"] == "image":
        source = {"type": "base64", "media_type": "image/png", "data": sdk.PNG}
        content = [{"type": "image", "source": source}, {"type": "text", "text": text}]
    fields = {"model": asked["model"], "max_tokens": 4096, "messages": [{"role": "user", "content": content}]}
    if names := sdk.tools(asked):
        fields["tools"] = [{"name": name, "input_schema": sdk.PARAMETERS} for name in names]
    if asked["ask"] == "object":
        fields["output_config"] = {"format": {"type": "json_schema", "schema": sdk.SCHEMA}}
    if asked["ask"] == "reasoning":
        fields["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    return fields | asked.get("fields", {})


def chat(asked, told):
    messages = of(asked).messages
    if asked.get("stream"):
        with messages.stream(**request(asked)) as stream:
            for event in stream:
                if event.type == "text":
                    told.piece(event.text)
            answer = stream.get_final_message()
    else:
        raw = messages.with_raw_response.create(**request(asked))
        told["headers"] = {name.lower(): value for name, value in raw.headers.items()}
        answer = raw.parse()
    told["text"] = "".join(block.text for block in answer.content if block.type == "text")
    told["reasoning"] = "".join(block.thinking for block in answer.content if block.type == "thinking")
    told["finish"] = answer.stop_reason
    told["model"] = answer.model
    for block in answer.content:
        if block.type == "tool_use":
            told.call(block.name, block.input)
    usage = answer.usage
    written, cached = usage.cache_creation_input_tokens or 0, usage.cache_read_input_tokens or 0
    # Anthropic counts apart what comes from the cache, and does not tell what was thought.
    told.usage(usage.input_tokens + written + cached, usage.output_tokens, cached, None)


def other(asked, told):
    match asked["ask"]:
        case "count":
            messages = request(asked)["messages"]
            told["tokens"] = of(asked).messages.count_tokens(model=asked["model"], messages=messages).input_tokens
        case "models":
            told["models"] = [each.id for each in of(asked).models.list()]


if __name__ == "__main__":
    sdk.main(chat=chat, other=other)
