"""Callers that do not stop until standard input ends, through the client of examples/python. Prints how many calls and
streams were served, and exits 1 where one was not.
"""

import os
import sys
import threading
from collections import Counter

import grpc
from rota.v1 import types_pb2

from client import Client, connect

CALLERS, STREAMS = 4, 4

# Not even a call that no server has seen is sent again: nothing may hide behind the library.
insecure_channel = grpc.insecure_channel
grpc.insecure_channel = lambda target, options: insecure_channel(target, [*options, ("grpc.enable_retries", 0)])


def main(provider, model):
    key = types_pb2.ModelKey(provider=provider, model_type=types_pb2.MODEL_TYPE_LLM, model=model)
    over, counts, failures = threading.Event(), Counter(), []

    def go_on(what, call):
        while not over.is_set():
            try:
                call()
                counts[what] += 1
            except (grpc.RpcError, AssertionError) as error:
                failures.append(f"{what}: {error}")

    with connect(os.environ["ROTA_TARGET"]) as channel:
        client = Client(channel, os.environ["ROTA_TOKEN"])

        def ask():
            assert client.ask(key, "hi").message.content.startswith("served by ")

        def stream():
            pieces = list(client.stream(key, "hi"))
            text = "".join(piece.delta.content for piece in pieces)
            assert text.startswith("served by ") and any(piece.finish_reason for piece in pieces), text

        threads = [threading.Thread(target=go_on, args=("calls", ask)) for _ in range(CALLERS)]
        threads += [threading.Thread(target=go_on, args=("streams", stream)) for _ in range(STREAMS)]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        over.set()
        for thread in threads:
            thread.join()
    print(f"calls: {counts['calls']}\nstreams: {counts['streams']}")
    if failures:
        sys.exit("\n".join(failures[:10]))


main(*sys.argv[1:])
