"""One balanced call, end to end, by a client that knows only reflection.

Makes a tenant with one model over three keys of the upstream, then 30 calls one after the other, 3,000 by 16 clients at
once and one streamed. Prints one line; where something is wrong it says what and exits 1.
"""

import argparse
import sys
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rotaclient import Client, RotaError

ADMIN, CONFIG, INVOKE = (f"rota.v1.{name}Service" for name in ("Admin", "Config", "Invoke"))
CLIENTS, CALLS = 16, 3000


class Wrong(Exception):
    """What was seen is not what was promised."""


def check(holds, message):
    if not holds:
        raise Wrong(message)


def set_up(operator, address, upstream, names):
    """Makes tenant, token, provider, model and configs. Returns a tenant admin's token and the model's key."""
    tenant = f"python-{uuid.uuid4().hex[:12]}"
    operator.call(f"{ADMIN}/CreateTenant", {"tenant": {"id": tenant, "name": "Python"}})
    token = operator.call(f"{ADMIN}/CreateToken", {"token": {"tenant_id": tenant, "role": "ROLE_TENANT_ADMIN", "name": "python"}})
    check(token["secret"].startswith("rota_"), "the secret of a token does not begin with rota_")

    admin = Client(address, token["secret"])
    key = {"tenant_id": tenant, "provider": "upstream", "model_type": "MODEL_TYPE_LLM", "model": "chat"}
    provider = {"tenant_id": tenant, "name": "upstream", "kind": "openai_compatible", "base_url": upstream}
    admin.call(f"{CONFIG}/CreateProvider", {"provider": provider})
    admin.call(f"{CONFIG}/PutModel", {"model": {"key": key}})
    configs = [
        {"name": name, "enabled": True, "credentials": {"api_key": f"key-{uuid.uuid4().hex}"}} for name in names
    ]
    stored = admin.call(f"{CONFIG}/UpdateLoadBalancingConfigs", {"key": key, "configs": configs})
    for sent, back in zip(configs, stored["configs"], strict=True):
        secret, masked = sent["credentials"]["api_key"], back["credentials"]["api_key"]
        check(masked == f"{secret[:6]}{'*' * 12}{secret[-2:]}", f"a key came back as {masked!r}")
    admin.call(f"{CONFIG}/EnableModelLoadBalancing", {"key": key})
    admin.close()
    return token["secret"], key


def chat(key):
    return {"key": key, "messages": [{"role": "user", "content": "hi"}]}


def served_by(client, key):
    answer = client.call(f"{INVOKE}/InvokeLlm", chat(key))
    check(answer["message"]["content"], f"an answer without content: {answer}")
    return answer["route"]["config_name"]


def one_after_the_other(client, key, names):
    counts = Counter(served_by(client, key) for _ in range(30))
    check(counts == Counter({name: 10 for name in names}), f"30 calls went {dict(counts)}, not 10 to each")


def all_at_once(address, token, key, names):
    def run(number):
        client = Client(address, token)
        counts = Counter(served_by(client, key) for _ in range(number))
        client.close()
        return counts

    shares = [CALLS // CLIENTS + (i < CALLS % CLIENTS) for i in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as threads:
        counts = sum(threads.map(run, shares), Counter())
    check(counts.total() == CALLS and set(counts) == set(names), f"{CALLS} calls went {dict(counts)}")
    check(max(counts.values()) - min(counts.values()) <= 1, f"the shares of {CALLS} calls differ: {dict(counts)}")
    return counts


def streamed(client, key, names):
    messages = list(client.stream(f"{INVOKE}/StreamLlm", chat(key)))
    check(messages, "the stream is empty")
    check(messages[0].get("route", {}).get("config_name") in names, f"no route in the first message: {messages[0]}")
    text = "".join(message.get("delta", {}).get("content", "") for message in messages)
    check(text, "the stream has no text")
    check(any(message.get("finish_reason") for message in messages), "the stream has no finish_reason")


def refusals(address, client, key):
    """An error comes with its code, its reason and its details."""

    def refused(who, method, request, code, reason, detail):
        try:
            who.call(method, request)
        except RotaError as error:
            seen = (error.code, error.reason, error.details.get("google.rpc.ErrorInfo", {}).get("domain"))
            check(seen == (code, reason, "rota"), f"{method} failed with {seen}")
            check(detail is None or detail in error.details, f"{method} failed without {detail}: {error.details}")
        else:
            raise Wrong(f"{method} was not refused")

    stranger = Client(address, "rota_wrong")
    refused(stranger, f"{INVOKE}/InvokeLlm", chat(key), "UNAUTHENTICATED", "TOKEN_INVALID", None)
    stranger.close()
    elsewhere = chat({**key, "model": "unknown"})
    refused(client, f"{INVOKE}/InvokeLlm", elsewhere, "NOT_FOUND", "MODEL_NOT_FOUND", "google.rpc.ResourceInfo")
    empty = {"key": key, "messages": []}
    refused(client, f"{INVOKE}/InvokeLlm", empty, "INVALID_ARGUMENT", "INVALID_FIELD", "google.rpc.BadRequest")


def healthy(client):
    stub = health_pb2_grpc.HealthStub(client.channel)
    for service in ("", ADMIN, CONFIG, INVOKE):
        status = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
        check(name == "SERVING", f"the health of {service!r} is {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="HOST:PORT of Rota")
    parser.add_argument("--operator-token", required=True)
    parser.add_argument("--upstream", required=True, help="base_url of a server that speaks the OpenAI protocol")
    args = parser.parse_args()
    names = ["first", "second", "third"]

    operator = Client(args.address, args.operator_token)
    healthy(operator)
    services = operator.services()
    check({ADMIN, CONFIG, INVOKE} <= set(services), f"reflection lists only {services}")
    token, key = set_up(operator, args.address, args.upstream, names)
    client = Client(args.address, token)
    one_after_the_other(client, key, names)
    counts = all_at_once(args.address, token, key, names)
    streamed(client, key, names)
    refusals(args.address, client, key)
    shares = ", ".join(f"{name} {counts[name]}" for name in names)
    print(f"ok: 30 calls 10/10/10; {CALLS} calls by {CLIENTS} clients: {shares}; one streamed; health SERVING")


if __name__ == "__main__":
    try:
        main()
    except (Wrong, RotaError, grpc.RpcError) as error:
        sys.exit(f"balanced_call: {error}")
