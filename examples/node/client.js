// A client of Rota.
//
//     node client.js ask|stream|first|lookaside PROVIDER MODEL TEXT
//
// `first` closes a stream after its first piece. Environment: ROTA_PROTO (the folder `proto` of Rota), ROTA_TARGET,
// ROTA_TOKEN, and for TLS the files ROTA_CA, ROTA_CERT and ROTA_KEY and the name ROTA_NAME.
'use strict';

const fs = require('node:fs');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const { ROTA_PROTO = '../../proto', ROTA_TARGET, ROTA_TOKEN, ROTA_NAME = 'rota' } = process.env;

// [connect]
const definition = loader.loadSync('rota/v1/invoke.proto', {
  includeDirs: [ROTA_PROTO],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
});
const { InvokeService } = grpc.loadPackageDefinition(definition).rota.v1;

// `target`: dns:///HOST:PORT, where the name has an address a replica, or ipv4:A:PORT,B:PORT,…
function connect(target, credentials = grpc.credentials.createInsecure(), name = 'rota') {
  return new InvokeService(target, credentials, {
    // No retryPolicy: Rota repeats by itself what may be repeated.
    'grpc.service_config': JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
    // With TLS, the name in the replicas' certificate.
    'grpc.default_authority': name,
    'grpc.ssl_target_name_override': name,
    'grpc.max_receive_message_length': 32 << 20,
    // A connection that has died in silence is noticed within 40 s.
    'grpc.keepalive_time_ms': 30_000,
    'grpc.keepalive_timeout_ms': 10_000,
    'grpc.keepalive_permit_without_calls': 1,
    // A replica that is back is found again within 5 s.
    'grpc.max_reconnect_backoff_ms': 5_000,
  });
}
// [/connect]

// [tls]
// `certificate` and `key` only where Rota has `--tls-client-ca`.
function credentials(ca, certificate, key) {
  const read = (file) => (file ? fs.readFileSync(file) : null);
  return grpc.credentials.createSsl(read(ca), read(key), read(certificate));
}
// [/tls]

class Client {
  constructor(service, token) {
    this.service = service;
    this.metadata = new grpc.Metadata();
    this.metadata.set('authorization', `Bearer ${token}`);
  }

  // [ask]
  unary(method, request, seconds) {
    const deadline = Date.now() + 1000 * seconds;
    return new Promise((resolve, reject) => {
      const done = (error, answer) => (error ? reject(error) : resolve(answer));
      this.service[method](request, this.metadata, { deadline }, done);
    });
  }

  ask(key, text, seconds = 60) {
    const parameters = { fields: { max_tokens: { numberValue: 100 } } };
    const request = { key, messages: [{ role: 'user', content: text }], parameters };
    return this.unary('InvokeLlm', request, seconds);
  }

  async *stream(key, text, seconds = 60) {
    const request = { key, messages: [{ role: 'user', content: text }] };
    const deadline = Date.now() + 1000 * seconds;
    const call = this.service.StreamLlm(request, this.metadata, { deadline });
    try {
      yield* call;
    } finally {
      // Whoever stops reading tells Rota so, which tells the provider.
      call.cancel();
    }
  }
  // [/ask]

  // [lookaside]
  // Calls the provider by itself: `call(lease)` returns what it got and how many tokens that took, or throws what
  // `failure` understands.
  async lookaside(key, call, renewEvery = 20) {
    const tried = [];
    for (;;) {
      const lease = await this.unary('Acquire', { key, exclude_config_ids: tried }, 10);
      tried.push(lease.config_id);
      // A lease ends by itself after 60 s, unless it is renewed.
      const renew = () => this.unary('RenewLease', { lease_id: lease.lease_id }, 10).catch(() => {});
      const timer = setInterval(renew, 1000 * renewEvery);
      let outcome = { error_class: 'ERROR_CLASS_CANCELLED' };
      try {
        const { answer, tokens } = await call(lease);
        outcome = { http_status: 200, usage: { total_tokens: tokens } };
        return { answer, lease };
      } catch (error) {
        outcome = failure(error);
        if (outcome.error_class === 'ERROR_CLASS_BAD_REQUEST') throw error;
      } finally {
        clearInterval(timer);
        await this.unary('Release', { lease_id: lease.lease_id, outcome }, 10);
      }
    }
  }
  // [/lookaside]
}

// [outcome]
// What Rota is told of a call by `fetch` that has failed: `error.response` where an answer came.
function failure(error) {
  if (error.name === 'TimeoutError') return { error_class: 'ERROR_CLASS_TIMEOUT' };
  if (!error.response) return { error_class: 'ERROR_CLASS_CONNECTION' };
  const { status, headers } = error.response;
  const classes = {
    401: 'ERROR_CLASS_AUTHENTICATION',
    402: 'ERROR_CLASS_QUOTA_EXHAUSTED',
    403: 'ERROR_CLASS_AUTHENTICATION',
    404: 'ERROR_CLASS_MODEL_UNAVAILABLE',
    408: 'ERROR_CLASS_TIMEOUT',
    429: 'ERROR_CLASS_RATE_LIMITED',
  };
  const other = status >= 500 ? 'ERROR_CLASS_SERVER_ERROR' : 'ERROR_CLASS_BAD_REQUEST';
  const outcome = { error_class: classes[status] ?? other, http_status: status };
  const seconds = headers.get('retry-after') ?? '';
  if (/^\d+$/.test(seconds)) outcome.retry_after = { seconds: Number(seconds) };
  return outcome;
}
// [/outcome]

// [errors]
const details = new protobuf.Root();
details.resolvePath = (_, file) => (fs.existsSync(`${ROTA_PROTO}/${file}`) ? `${ROTA_PROTO}/${file}` : file);
details.loadSync('rota/v1/types.proto', { keepCase: true });
protobuf.parse(
  `syntax = "proto3"; package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message RetryInfo { google.protobuf.Duration retry_delay = 1; }`,
  details,
  { keepCase: true },
);

// What Rota says of a call that failed. All is empty where the error is not Rota's, as when a connection broke.
function told(error) {
  const said = { reason: '', againIn: null, attempts: [] };
  const [bytes] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!bytes) return said;
  for (const { type_url, value } of details.lookupType('google.rpc.Status').decode(bytes).details) {
    const name = type_url.split('/').pop();
    const read = () => {
      const type = details.lookupType(name);
      return type.toObject(type.decode(value), { enums: String, longs: Number, defaults: true });
    };
    if (name === 'google.rpc.ErrorInfo') said.reason = read().reason;
    if (name === 'google.rpc.RetryInfo') {
      const { seconds, nanos } = read().retry_delay;
      said.againIn = seconds + nanos / 1e9;
    }
    if (name === 'rota.v1.Route') said.attempts = read().attempts;
  }
  return said;
}

// Repeats `call(seconds)` when and as long as Rota says that it may help.
async function patiently(call, seconds = 60) {
  const end = Date.now() + 1000 * seconds;
  for (;;) {
    try {
      return await call((end - Date.now()) / 1000);
    } catch (error) {
      const { againIn } = told(error);
      if (againIn === null || Date.now() + 1000 * againIn >= end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * againIn));
    }
  }
}
// [/errors]

// A chat completion of a provider that speaks OpenAI's protocol.
async function askProvider({ base_url, upstream_model, credentials }) {
  const response = await fetch(`${base_url}/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${credentials.api_key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: upstream_model, messages: [{ role: 'user', content: 'hi' }] }),
    signal: AbortSignal.timeout(30_000),
  });
  if (!response.ok) throw Object.assign(new Error(`status ${response.status}`), { response });
  const reply = await response.json();
  return { answer: reply.choices[0].message.content, tokens: reply.usage.total_tokens };
}

const way = (attempts) =>
  attempts
    .map(({ config_name, error_class }) =>
      error_class === 'ERROR_CLASS_UNSPECIFIED' ? config_name : `${config_name} ${error_class}`,
    )
    .join(' then ');

async function main([command, provider, model, text]) {
  const { ROTA_CA, ROTA_CERT, ROTA_KEY, DEADLINE = 60, RENEW_EVERY = 20 } = process.env;
  const secured = ROTA_CA ? credentials(ROTA_CA, ROTA_CERT, ROTA_KEY) : undefined;
  const service = connect(ROTA_TARGET, secured, ROTA_NAME);
  const client = new Client(service, ROTA_TOKEN);
  const key = { provider, model_type: 'MODEL_TYPE_LLM', model };
  try {
    if (command === 'ask') {
      const answer = await patiently((seconds) => client.ask(key, text, seconds), Number(DEADLINE));
      console.log(`answer: ${answer.message.content}\nway: ${way(answer.route.attempts)}`);
    } else if (command === 'stream') {
      let [answer, route] = ['', null];
      for await (const piece of client.stream(key, text)) {
        answer += piece.delta?.content ?? '';
        route ??= piece.route;
      }
      console.log(`answer: ${answer}\nway: ${way(route.attempts)}`);
    } else if (command === 'first') {
      for await (const piece of client.stream(key, text)) {
        console.log(`answer: ${piece.delta.content}…`);
        break;
      }
    } else if (command === 'lookaside') {
      const { answer, lease } = await client.lookaside(key, askProvider, Number(RENEW_EVERY));
      console.log(`answer: ${answer}\nway: ${lease.config_name}`);
    }
  } catch (error) {
    if (!(error.metadata instanceof grpc.Metadata)) throw error;
    const { reason, againIn, attempts } = told(error);
    const again = againIn === null ? '' : `\nagain in: ${Math.round(againIn)} s`;
    console.error(`error: ${reason || grpc.status[error.code]}${again}\nway: ${way(attempts)}`);
    process.exitCode = 1;
  } finally {
    service.close();
  }
}

if (require.main === module) main(process.argv.slice(2));
module.exports = { connect, Client };
