// What the programs share that call Rota through an SDK for Node. They take and answer the same lines as those in Python:
// see tests/clients/python/sdk.py.
'use strict';

const readline = require('node:readline');

const PNG =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==';
const PROMPTS = { tools: 'call every tool', object: 'answer in JSON' };
const TOOLS = { tool: ['weather'], tools: ['weather', 'clock'] };
const PARAMETERS = { type: 'object', properties: { place: { type: 'integer' } } };
const SCHEMA = {
  type: 'object',
  properties: { said: { type: 'string' } },
  required: ['said'],
  additionalProperties: false,
};

class Told {
  constructor() {
    Object.defineProperty(this, 'began', { value: performance.now() });
  }

  piece(text) {
    if (!text) return;
    (this.pieces ??= []).push(text);
    (this.times ??= []).push(this.seconds());
  }

  call(name, args) {
    (this.calls ??= []).push({ name, arguments: typeof args === 'string' ? JSON.parse(args) : args });
  }

  spent(input, output, cached, reasoning) {
    this.usage = { input, output, cached: cached ?? 0, reasoning: reasoning ?? 0 };
  }

  seconds() {
    return (performance.now() - this.began) / 1000;
  }
}

function described(error) {
  const body = error.error?.error ?? error.error ?? {};
  return {
    class: error.constructor.name,
    status: error.status ?? null,
    type: body.type ?? null,
    code: body.code ?? null,
    param: body.param ?? null,
    message: String(error.message),
    headers: Object.fromEntries(error.headers ?? []),
  };
}

// Answers requests until the input ends. A function takes the request and its `Told`.
async function main(functions) {
  console.log(JSON.stringify({ ready: true }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    const told = new Told();
    try {
      await functions[asked.api ?? 'chat'](asked, told);
    } catch (error) {
      told.error = described(error);
    }
    told.took = told.seconds();
    console.log(JSON.stringify(told));
  }
}

module.exports = {
  PNG,
  PARAMETERS,
  SCHEMA,
  main,
  prompt: (asked) => asked.prompt ?? PROMPTS[asked.ask] ?? 'hi',
  tools: (asked) => TOOLS[asked.ask] ?? [],
};
