"""A client of Rota.

    client.py ask|stream|first|lookaside PROVIDER MODEL TEXT

`first` closes a stream after its first piece. Generate the stubs first:

    python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. proto/rota/v1/types.proto proto/rota/v1/invoke.proto

Environment: ROTA_TARGET, ROTA_TOKEN, and for TLS the files ROTA_CA, ROTA_CERT and ROTA_KEY and the name ROTA_NAME.
"""

import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from rota.v1 import invoke_pb2 as pb
from rota.v1 import invoke_pb2_grpc, types_pb2

# [connect]
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
    # No retryPolicy: Rota repeats by itself what may be repeated.
}


def connect(target, credentials=None, name="rota"):
    """`target`: dns:///HOST:PORT, where the name has an address a replica, or ipv4:A:PORT,B:PORT,…"""
    options = [
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        # A list of addresses is no name. With TLS, it is the one in the replicas' certificate.
        ("grpc.default_authority", name),
        ("grpc.max_receive_message_length", 32 << 20),
        # A connection that has died in silence is noticed within 40 s.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # A replica that is back is found again within 5 s.
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    if credentials:
        return grpc.secure_channel(target, credentials, options)
    return grpc.insecure_channel(target, options)
# [/connect]


# [tls]
def credentials(ca, certificate=None, key=None):
    """`certificate` and `key` only where Rota has `--tls-client-ca`."""
    ca, key, certificate = (Path(file).read_bytes() if file else None for file in (ca, key, certificate))
    return grpc.ssl_channel_credentials(ca, key, certificate)
# [/tls]


class Client:
    def __init__(self, channel, token):
        self.stub = invoke_pb2_grpc.InvokeServiceStub(channel)
        self.metadata = [("authorization", f"Bearer {token}")]

    # [ask]
    def ask(self, key, text, deadline=60):
        request = pb.InvokeLlmRequest(key=key, messages=[pb.Message(role="user", content=text)])
        request.parameters.update({"max_tokens": 100})
        return self.stub.InvokeLlm(request, timeout=deadline, metadata=self.metadata)

    def stream(self, key, text, deadline=60):
        request = pb.StreamLlmRequest(key=key, messages=[pb.Message(role="user", content=text)])
        call = self.stub.StreamLlm(request, timeout=deadline, metadata=self.metadata)
        try:
            yield from call
        finally:
            # Whoever stops reading tells Rota so, which tells the provider.
            call.cancel()
    # [/ask]

    # [lookaside]
    def lookaside(self, key, call, renew_every=20):
        """Calls the provider by itself: `call(lease)` returns what it got and how many tokens that took."""
        tried = []
        while True:
            request = pb.AcquireRequest(key=key, exclude_config_ids=tried)
            lease = self.stub.Acquire(request, timeout=10, metadata=self.metadata)
            tried.append(lease.config_id)
            # What is told where an exception that is not the provider's comes in between.
            outcome = pb.Outcome(error_class=types_pb2.ERROR_CLASS_CANCELLED)
            try:
                with self.renewed(lease, renew_every):
                    answer, tokens = call(lease)
                outcome = pb.Outcome(http_status=200, usage=pb.Usage(total_tokens=tokens))
                return answer, lease
            except OSError as error:
                outcome = failure(error)
                if outcome.error_class == types_pb2.ERROR_CLASS_BAD_REQUEST:
                    raise
            finally:
                request = pb.ReleaseRequest(lease_id=lease.lease_id, outcome=outcome)
                self.stub.Release(request, timeout=10, metadata=self.metadata)

    @contextmanager
    def renewed(self, lease, every):
        """A lease ends by itself after 60 s, unless it is renewed."""
        over = threading.Event()

        def renew():
            while not over.wait(every):
                try:
                    request = pb.RenewLeaseRequest(lease_id=lease.lease_id)
                    self.stub.RenewLease(request, timeout=10, metadata=self.metadata)
                except grpc.RpcError:
                    pass  # The call itself goes on, and there is time for another try.

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
    # [/lookaside]


# [outcome]
def failure(error):
    """What Rota is told of a call that urllib says has failed."""
    if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
        return pb.Outcome(error_class=types_pb2.ERROR_CLASS_TIMEOUT)
    if not isinstance(error, urllib.error.HTTPError):
        return pb.Outcome(error_class=types_pb2.ERROR_CLASS_CONNECTION)
    classes = {
        401: types_pb2.ERROR_CLASS_AUTHENTICATION,
        402: types_pb2.ERROR_CLASS_QUOTA_EXHAUSTED,
        403: types_pb2.ERROR_CLASS_AUTHENTICATION,
        404: types_pb2.ERROR_CLASS_MODEL_UNAVAILABLE,
        408: types_pb2.ERROR_CLASS_TIMEOUT,
        429: types_pb2.ERROR_CLASS_RATE_LIMITED,
    }
    other = types_pb2.ERROR_CLASS_SERVER_ERROR if error.code >= 500 else types_pb2.ERROR_CLASS_BAD_REQUEST
    outcome = pb.Outcome(error_class=classes.get(error.code, other), http_status=error.code)
    seconds = error.headers.get("retry-after", "")
    if seconds.isdigit():
        outcome.retry_after.seconds = int(seconds)
    return outcome
# [/outcome]


# [errors]
class Told:
    """What Rota says of a call that failed. All is empty where the error is not Rota's, as when a connection broke."""

    def __init__(self, error):
        self.reason, self.again_in, self.attempts = "", None, []
        status = rpc_status.from_call(error)
        for detail in status.details if status else []:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo.FromString(detail.value)
                self.reason = info.reason
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                retry = error_details_pb2.RetryInfo.FromString(detail.value)
                self.again_in = retry.retry_delay.ToTimedelta().total_seconds()
            elif detail.Is(types_pb2.Route.DESCRIPTOR):
                self.attempts = list(types_pb2.Route.FromString(detail.value).attempts)


def patiently(call, deadline=60):
    """Repeats `call(seconds)` when and as long as Rota says that it may help."""
    end = time.monotonic() + deadline
    while True:
        try:
            return call(end - time.monotonic())
        except grpc.RpcError as error:
            again_in = Told(error).again_in
            if again_in is None or time.monotonic() + again_in >= end:
                raise
            time.sleep(again_in)
# [/errors]


def ask_provider(lease):
    """A chat completion of a provider that speaks OpenAI's protocol."""
    body = {"model": lease.upstream_model, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": f"Bearer {lease.credentials['api_key']}", "content-type": "application/json"}
    request = urllib.request.Request(f"{lease.base_url}/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        answer = json.load(reply)
    return answer["choices"][0]["message"]["content"], answer["usage"]["total_tokens"]


def way(attempts):
    return " then ".join(
        f"{attempt.config_name} {types_pb2.ErrorClass.Name(attempt.error_class)}" if attempt.error_class
        else attempt.config_name
        for attempt in attempts
    )


def main(command, provider, model, text):
    env = os.environ.get
    secured = credentials(env("ROTA_CA"), env("ROTA_CERT"), env("ROTA_KEY")) if env("ROTA_CA") else None
    with connect(env("ROTA_TARGET"), secured, env("ROTA_NAME", "rota")) as channel:
        client = Client(channel, env("ROTA_TOKEN"))
        key = types_pb2.ModelKey(provider=provider, model_type=types_pb2.MODEL_TYPE_LLM, model=model)
        if command == "ask":
            deadline = float(env("DEADLINE", "60"))
            answer = patiently(lambda seconds: client.ask(key, text, seconds), deadline)
            print(f"answer: {answer.message.content}\nway: {way(answer.route.attempts)}")
        elif command == "stream":
            pieces = list(client.stream(key, text))
            text = "".join(piece.delta.content for piece in pieces)
            print(f"answer: {text}\nway: {way(pieces[0].route.attempts)}")
        elif command == "first":
            stream = client.stream(key, text)
            print(f"answer: {next(stream).delta.content}…")
            stream.close()
        elif command == "lookaside":
            answer, lease = client.lookaside(key, ask_provider, float(env("RENEW_EVERY", "20")))
            print(f"answer: {answer}\nway: {lease.config_name}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except grpc.RpcError as error:
        told = Told(error)
        again = "" if told.again_in is None else f"\nagain in: {told.again_in:.0f} s"
        sys.exit(f"error: {told.reason or error.code().name}{again}\nway: {way(told.attempts)}")
