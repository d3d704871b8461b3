"""LangChain's ChatOpenAI (`api` chat and responses) and ChatAnthropic (`api` anthropic). See sdk.py."""

import json

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

import sdk


def model(asked):
    options = {"model": asked["model"], "api_key": asked["token"]}
    if "retries" in asked:
        options["max_retries"] = asked["retries"]
    if asked.get("api") == "anthropic":
        if asked["ask"] == "reasoning":
            options["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        return ChatAnthropic(base_url=asked["base"], max_tokens=4096, stream_usage=True, **options)
    of_responses = asked.get("api") == "responses"
    if asked["ask"] == "reasoning":
        effort = {"effort": "low", "summary": "auto"}
        options |= {"reasoning": effort} if of_responses else {"reasoning_effort": "low"}
    return ChatOpenAI(
        base_url=f"{asked['base']}/v1", stream_usage=True, use_responses_api=of_responses, **options
    )


def chat(asked, told):
    chat = model(asked)
    if names := sdk.tools(asked):
        chat = chat.bind_tools(
            [{"name": name, "description": name, "parameters": sdk.PARAMETERS} for name in names]
        )
    if asked["ask"] == "object":
        schema = sdk.SCHEMA | {"title": "answer", "description": "An answer."}
        chat = chat.with_structured_output(schema, method="json_schema")
        told["text"] = json.dumps(chat.invoke(sdk.prompt(asked)))
        return
    content = [{"type": "text", "text": sdk.prompt(asked)}]
    if asked["ask"] == "image":
        content.append({"type": "image", "base64": sdk.PNG, "mime_type": "image/png"})
    messages = [HumanMessage(content)]
    if asked.get("stream"):
        answer = None
        for chunk in chat.stream(messages):
            told.piece(chunk.text)
            answer = chunk if answer is None else answer + chunk
    else:
        answer = chat.invoke(messages)
    told["text"] = str(answer.text)
    blocks = [block for block in answer.content_blocks if block["type"] == "reasoning"]
    told["reasoning"] = "".join(block.get("reasoning", "") for block in blocks)
    told["finish"] = answer.response_metadata.get("finish_reason") or answer.response_metadata.get("stop_reason")
    for call in answer.tool_calls:
        told.call(call["name"], call["args"])
    if usage := answer.usage_metadata:
        cached = usage.get("input_token_details", {}).get("cache_read")
        thought = usage.get("output_token_details", {}).get("reasoning")
        told.usage(usage["input_tokens"], usage["output_tokens"], cached, thought)


if __name__ == "__main__":
    sdk.main(chat=chat, responses=chat, anthropic=chat)
