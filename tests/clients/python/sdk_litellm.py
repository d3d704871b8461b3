"""LiteLLM's client, which speaks OpenAI's protocol (`api` chat) or Anthropic's (`api` anthropic). See sdk.py."""

import os

# Else it fetches the prices of models.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

import sdk
import sdk_openai


def chat(asked, told):
    fields = sdk_openai.request(asked)
    of_anthropic = asked.get("api") == "anthropic"
    fields["model"] = f"{'anthropic' if of_anthropic else 'openai'}/{asked['model']}"
    fields |= {
        "api_base": asked["base"] if of_anthropic else f"{asked['base']}/v1",
        "api_key": asked["token"],
        "allowed_openai_params": ["reasoning_effort", "response_format", "tools"],
    }
    if "retries" in asked:
        fields["max_retries"] = asked["retries"]
    if asked.get("stream"):
        chunks = []
        for chunk in litellm.completion(**fields, stream=True, stream_options={"include_usage": True}):
            chunks.append(chunk)
            for choice in chunk.choices:
                told.piece(choice.delta.content)
        answer = litellm.stream_chunk_builder(chunks)
    else:
        answer = litellm.completion(**fields)
    choice = answer.choices[0]
    told["text"] = choice.message.content or ""
    told["reasoning"] = getattr(choice.message, "reasoning_content", None) or ""
    told["finish"] = choice.finish_reason
    told["model"] = answer.model
    for call in choice.message.tool_calls or []:
        told.call(call.function.name, call.function.arguments)
    if usage := answer.usage:
        cached = usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens
        thought = usage.completion_tokens_details and usage.completion_tokens_details.reasoning_tokens
        told.usage(usage.prompt_tokens, usage.completion_tokens, cached, thought)


if __name__ == "__main__":
    sdk.main(chat=chat, anthropic=chat)
