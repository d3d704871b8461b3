// OpenAI's SDK for Node: chat and Responses. See sdk.js.
'use strict';

const { OpenAI } = require('openai');

const sdk = require('./sdk.js');

function client(asked) {
  const options = { baseURL: `${asked.base}/v1`, apiKey: asked.token };
  if (asked.retries !== undefined) options.maxRetries = asked.retries;
  if (asked.timeout !== undefined) options.timeout = 1000 * asked.timeout;
  return new OpenAI(options);
}

async function chat(asked, told) {
  const request = { model: asked.model, messages: [{ role: 'user', content: sdk.prompt(asked) }], ...asked.fields };
  if (asked.ask === 'image') {
    request.messages[0].content = [
      { type: 'text', text: sdk.prompt(asked) },
      { type: 'image_url', image_url: { url: `data:image/png;base64,${sdk.PNG}` } },
    ];
  }
  const tools = sdk.tools(asked).map((name) => ({
    type: 'function',
    function: { name, parameters: sdk.PARAMETERS },
  }));
  if (tools.length) request.tools = tools;
  if (asked.ask === 'object') {
    const schema = { name: 'answer', schema: sdk.SCHEMA, strict: true };
    request.response_format = { type: 'json_schema', json_schema: schema };
  }
  if (asked.ask === 'reasoning') request.reasoning_effort = 'low';
  let answer;
  if (asked.stream) {
    const stream = client(asked).chat.completions.stream({ ...request, stream_options: { include_usage: true } });
    stream.on('content', (delta) => told.piece(delta));
    answer = await stream.finalChatCompletion();
  } else {
    answer = await client(asked).chat.completions.create(request);
  }
  const { message, finish_reason: finish } = answer.choices[0];
  Object.assign(told, { text: message.content ?? '', finish, model: answer.model });
  told.reasoning = message.reasoning_content ?? message.reasoning ?? '';
  for (const call of message.tool_calls ?? []) told.call(call.function.name, call.function.arguments);
  const usage = answer.usage;
  if (usage) {
    const thought = usage.completion_tokens_details?.reasoning_tokens;
    told.spent(usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details?.cached_tokens, thought);
  }
}

async function responses(asked, told) {
  const content = [{ type: 'input_text', text: sdk.prompt(asked) }];
  if (asked.ask === 'image') {
    content.push({ type: 'input_image', image_url: `data:image/png;base64,${sdk.PNG}`, detail: 'auto' });
  }
  const request = { model: asked.model, input: [{ role: 'user', content }], ...asked.fields };
  const tools = sdk.tools(asked).map((name) => ({
    type: 'function',
    name,
    parameters: sdk.PARAMETERS,
    strict: false,
  }));
  if (tools.length) request.tools = tools;
  if (asked.ask === 'object') {
    request.text = { format: { type: 'json_schema', name: 'answer', schema: sdk.SCHEMA, strict: true } };
  }
  if (asked.ask === 'reasoning') {
    request.reasoning = { effort: 'low', summary: 'auto' };
    request.include = ['reasoning.encrypted_content'];
  }
  let answer;
  if (asked.stream) {
    const stream = client(asked).responses.stream(request);
    stream.on('response.output_text.delta', (event) => told.piece(event.delta));
    answer = await stream.finalResponse();
  } else {
    answer = await client(asked).responses.create(request);
  }
  Object.assign(told, { text: answer.output_text, finish: answer.status, model: answer.model, reasoning: '' });
  for (const item of answer.output) {
    if (item.type === 'function_call') told.call(item.name, item.arguments);
    if (item.type === 'reasoning') told.reasoning += item.summary.map((part) => part.text).join('');
  }
  const usage = answer.usage;
  if (usage) {
    const { input_tokens_details: given, output_tokens_details: made } = usage;
    told.spent(usage.input_tokens, usage.output_tokens, given.cached_tokens, made.reasoning_tokens);
  }
}

sdk.main({ chat, responses });
