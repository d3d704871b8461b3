"""Callers that do not stop, and tell of every call: what the tests of faults measure by.

All of them share one gRPC channel, as a service would have it: it balances over the replicas (`round_robin`), leaves out
those whose health says NOT_SERVING, and retries nothing that may have been worked on. What gRPC sends again by itself is
what has never left the client or what a replica has refused unseen (its "transparent retry").

Once all is ready a line says what the clock shows, and one follows for every call that has ended. The end of the input
ends the callers; calls on their way are waited for.
"""

import argparse
import asyncio
import json
import sys
import time

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from rotaclient import Client

UNARY, STREAM = "rota.v1.InvokeService/InvokeLlm", "rota.v1.InvokeService/StreamLlm"
# A caller that has been refused without a word of when to come back comes back after so many seconds.
PAUSE = 0.05


def options():
    service = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": "rota.v1.InvokeService"},
    }
    return [
        ("grpc.service_config", json.dumps(service)),
        # A list of addresses is no name that HTTP/2 takes.
        ("grpc.default_authority", "rota"),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]


def why(error):
    """The reason of a failure and when to come back, as far as Rota has told."""
    reason, pause = "", PAUSE
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            reason = error_details_pb2.ErrorInfo.FromString(detail.value).reason
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            pause = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay.ToTimedelta().total_seconds()
    return reason, pause


class Callers:
    def __init__(self, channel, args):
        self.metadata = [("authorization", f"Bearer {args.token}")]
        self.deadline = args.deadline
        self.stopped = asyncio.Event()
        learner = Client(args.targets.split(",")[0])
        self.invoke, self.request = self.method(learner, channel.unary_unary, UNARY, args.key)
        self.stream, self.stream_request = self.method(learner, channel.unary_stream, STREAM, args.key)
        learner.close()

    def method(self, learner, make, name, key):
        request, answer = learner.messages(name)
        function = make(
            f"/{name}", request_serializer=request.SerializeToString, response_deserializer=answer.FromString
        )
        chat = {"key": json.loads(key), "messages": [{"role": "user", "content": "hi"}]}
        return function, json_format.ParseDict(chat, request())

    async def one(self, told):
        answer = await self.invoke(self.request, timeout=self.deadline, metadata=self.metadata)
        told |= {"attempts": len(answer.route.attempts), "degraded": answer.route.degraded, "messages": 1}
        told["whole"] = bool(answer.message.content)

    async def streamed(self, told):
        async for message in self.stream(self.stream_request, timeout=self.deadline, metadata=self.metadata):
            if not told["messages"]:
                told |= {"attempts": len(message.route.attempts), "degraded": message.route.degraded}
            told["messages"] += 1
            told["whole"] |= bool(message.finish_reason)

    async def cancelled(self, told):
        """Goes away after the first message."""
        call = self.stream(self.stream_request, timeout=self.deadline, metadata=self.metadata)
        await call.read()
        call.cancel()
        told |= {"whole": True, "messages": 1}

    async def go_on(self, kind, call):
        while not self.stopped.is_set():
            told = {"kind": kind, "began": time.monotonic(), "attempts": 0, "degraded": False, "messages": 0}
            told |= {"whole": False, "code": "OK", "reason": "", "text": ""}
            pause = 0
            try:
                await call(told)
            except grpc.aio.AioRpcError as error:
                told |= {"code": error.code().name, "text": error.details() or ""}
                told["reason"], pause = why(error)
            told["ended"] = time.monotonic()
            print(json.dumps(told), flush=True)
            if pause:
                try:
                    await asyncio.wait_for(self.stopped.wait(), pause)
                except asyncio.TimeoutError:
                    pass


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", required=True, help="HOST:PORT of every replica, with commas")
    parser.add_argument("--token", required=True)
    parser.add_argument("--key", required=True, help="the model's key as JSON")
    parser.add_argument("--unary", type=int, default=0, help="callers that wait for whole answers")
    parser.add_argument("--stream", type=int, default=0, help="callers that read streams to their end")
    parser.add_argument("--cancel", type=int, default=0, help="callers that leave streams after their first message")
    parser.add_argument("--deadline", type=float, default=30.0, help="of each call, in seconds")
    args = parser.parse_args()

    async with grpc.aio.insecure_channel(f"ipv4:{args.targets}", options=options()) as channel:
        callers = Callers(channel, args)
        await channel.channel_ready()
        print(json.dumps({"now": time.monotonic()}), flush=True)
        kinds = [
            ("unary", callers.one, args.unary),
            ("stream", callers.streamed, args.stream),
            ("cancelled", callers.cancelled, args.cancel),
        ]
        running = [asyncio.create_task(callers.go_on(kind, call)) for kind, call, count in kinds for _ in range(count)]
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()
        callers.stopped.set()
        await asyncio.gather(*running)


if __name__ == "__main__":
    asyncio.run(main())
