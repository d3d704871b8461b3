"""Google's SDK for Gemini. See sdk.py."""

import base64
from functools import cache

from google import genai
from google.genai import types

import sdk


@cache  # One that is forgotten closes its connections, even under a stream.
def client(base, token, timeout):
    options = types.HttpOptions(base_url=base, api_version="v1beta", timeout=timeout)
    return genai.Client(api_key=token, http_options=options)


def of(asked):
    # Without options of its own this SDK does not retry. Its limit is in milliseconds.
    timeout = asked.get("timeout")
    return client(asked["base"], asked["token"], timeout and int(timeout * 1000)).models


def request(asked):
    parts = [types.Part.from_text(text=sdk.prompt(asked))]
    if asked["ask"] == "image":
        parts.append(types.Part.from_bytes(data=base64.b64decode(sdk.PNG), mime_type="image/png"))
    config = {}
    if names := sdk.tools(asked):
        declared = [{"name": name, "parameters_json_schema": sdk.PARAMETERS} for name in names]
        config["tools"] = [{"function_declarations": declared}]
    if asked["ask"] == "object":
        config |= {"response_mime_type": "application/json", "response_json_schema": sdk.SCHEMA}
    if asked["ask"] == "reasoning":
        config["thinking_config"] = {"include_thoughts": True, "thinking_budget": 1024}
    contents = [types.Content(role="user", parts=parts)]
    return {"model": asked["model"], "contents": contents, "config": config | asked.get("fields", {})}


def chat(asked, told):
    if asked.get("stream"):
        answers = []
        for chunk in of(asked).generate_content_stream(**request(asked)):
            answers.append(chunk)
            parts = [part for candidate in chunk.candidates or [] for part in (candidate.content and candidate.content.parts) or []]
            told.piece("".join(part.text or "" for part in parts if not part.thought))
    else:
        answers = [of(asked).generate_content(**request(asked))]
        told["headers"] = {name.lower(): value for name, value in answers[0].sdk_http_response.headers.items()}
    told |= {"text": "", "reasoning": "", "finish": None}
    for answer in answers:
        for candidate in answer.candidates or []:
            if candidate.finish_reason:
                told["finish"] = candidate.finish_reason.value
            for part in (candidate.content and candidate.content.parts) or []:
                told["reasoning" if part.thought else "text"] += part.text or ""
                if part.function_call:
                    told.call(part.function_call.name, part.function_call.args or {})
        told["model"] = answer.model_version
        if usage := answer.usage_metadata:
            thought = usage.thoughts_token_count or 0
            # Gemini counts apart what was thought.
            told.usage(
                usage.prompt_token_count,
                (usage.candidates_token_count or 0) + thought,
                usage.cached_content_token_count,
                thought,
            )


def other(asked, told):
    match asked["ask"]:
        case "count":
            told["tokens"] = of(asked).count_tokens(model=asked["model"], contents="hi").total_tokens
        case "embeddings":
            reply = of(asked).embed_content(model=asked["model"], contents=["a", "three"])
            told["vectors"] = [each.values for each in reply.embeddings]
        case "models":
            told["models"] = [each.name for each in of(asked).list()]


if __name__ == "__main__":
    sdk.main(chat=chat, other=other)
