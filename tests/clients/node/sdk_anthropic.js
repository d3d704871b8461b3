// Anthropic's SDK for Node. See sdk.js.
'use strict';

const { Anthropic } = require('@anthropic-ai/sdk');

const sdk = require('./sdk.js');

function client(asked) {
  const options = { baseURL: asked.base, apiKey: asked.token };
  if (asked.retries !== undefined) options.maxRetries = asked.retries;
  if (asked.timeout !== undefined) options.timeout = 1000 * asked.timeout;
  return new Anthropic(options);
}

async function chat(asked, told) {
  const content = [{ type: 'text', text: sdk.prompt(asked) }];
  if (asked.ask === 'image') {
    content.unshift({ type: 'image', source: { type: 'base64', media_type: 'image/png', data: sdk.PNG } });
  }
  const request = { model: asked.model, max_tokens: 4096, messages: [{ role: 'user', content }], ...asked.fields };
  const tools = sdk.tools(asked).map((name) => ({ name, input_schema: sdk.PARAMETERS }));
  if (tools.length) request.tools = tools;
  if (asked.ask === 'object') request.output_config = { format: { type: 'json_schema', schema: sdk.SCHEMA } };
  if (asked.ask === 'reasoning') request.thinking = { type: 'enabled', budget_tokens: 1024 };
  let answer;
  if (asked.stream) {
    const stream = client(asked).messages.stream(request);
    stream.on('text', (delta) => told.piece(delta));
    answer = await stream.finalMessage();
  } else {
    answer = await client(asked).messages.create(request);
  }
  const all = (type, field) => answer.content.filter((block) => block.type === type).map((block) => block[field]);
  Object.assign(told, { text: all('text', 'text').join(''), reasoning: all('thinking', 'thinking').join('') });
  Object.assign(told, { finish: answer.stop_reason, model: answer.model });
  for (const block of answer.content) if (block.type === 'tool_use') told.call(block.name, block.input);
  const { input_tokens: fresh, output_tokens: made } = answer.usage;
  const cached = answer.usage.cache_read_input_tokens ?? 0;
  told.spent(fresh + cached + (answer.usage.cache_creation_input_tokens ?? 0), made, cached);
}

sdk.main({ chat });
