// Callers that do not stop until standard input ends, through the client of examples/node. Prints how many calls and
// streams were served, and exits 1 where one was not.
'use strict';

const { connect, Client } = require('../../../examples/node/client.js');

const [CALLERS, STREAMS] = [4, 4];
const { ROTA_TARGET, ROTA_TOKEN } = process.env;
const [provider, model] = process.argv.slice(2);
const key = { provider, model_type: 'MODEL_TYPE_LLM', model };
const service = connect(ROTA_TARGET);
const client = new Client(service, ROTA_TOKEN);

let over = false;
process.stdin.on('end', () => (over = true)).resume();

const counts = { calls: 0, streams: 0 };
const failures = [];

async function goOn(what, call) {
  while (!over) {
    try {
      const text = await call();
      if (!text.startsWith('served by ')) throw new Error(`got ${text}`);
      counts[what] += 1;
    } catch (error) {
      failures.push(`${what}: ${error}`);
      // Nothing that fails at once may keep the process from anything else.
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

async function ask() {
  return (await client.ask(key, 'hi')).message.content;
}

async function stream() {
  let [text, finished] = ['', false];
  for await (const piece of client.stream(key, 'hi')) {
    text += piece.delta?.content ?? '';
    finished ||= piece.finish_reason !== '';
  }
  return finished ? text : `${text} and no end`;
}

const callers = Array.from({ length: CALLERS }, () => goOn('calls', ask));
callers.push(...Array.from({ length: STREAMS }, () => goOn('streams', stream)));
Promise.all(callers).then(() => {
  service.close();
  console.log(`calls: ${counts.calls}\nstreams: ${counts.streams}`);
  if (failures.length > 0) {
    console.error(failures.slice(0, 10).join('\n'));
    process.exitCode = 1;
  }
});
