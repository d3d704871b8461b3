"""A gRPC client that knows nothing but an address: it learns services and messages by server reflection (v1alpha).

    client = Client("127.0.0.1:50051", token="rota_…")
    client.call("rota.v1.AdminService/CreateTenant", {"tenant": {"id": "acme"}})   # a dict in, a dict out
    for message in client.stream("rota.v1.InvokeService/StreamLlm", {...}): ...

Dicts have the JSON form of protobuf with the field names of the protos. A call that fails raises `RotaError`.
"""

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status


class RotaError(Exception):
    """A failed call: `code` ("NOT_FOUND"), `message`, `reason` of the ErrorInfo, and `details`, all of them as dicts
    by message name ("google.rpc.RetryInfo")."""

    def __init__(self, code, message, details):
        self.code = code
        self.message = message
        self.details = details
        self.reason = details.get("google.rpc.ErrorInfo", {}).get("reason", "")
        super().__init__(f"{code} {self.reason}: {message}")


class Client:
    """One connection. May be used by several threads."""

    def __init__(self, address, token=None, deadline=30.0):
        # A pool of its own, so that each client has a connection of its own.
        self.channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.deadline = deadline
        self.metadata = [("authorization", f"Bearer {token}")] if token else []
        self._database = ProtoReflectionDescriptorDatabase(self.channel)
        self._pool = DescriptorPool(self._database)
        self._methods = {}

    def services(self):
        """The names of the services that the server lists."""
        return sorted(self._database.get_services())

    def call(self, method, request=None, deadline=None):
        """One answer. `method` is `package.Service/Method`; `deadline` is in seconds."""
        function, make = self._method(method)
        try:
            answer = function(make(request), timeout=deadline or self.deadline, metadata=self.metadata)
        except grpc.RpcError as error:
            raise self._decoded(error) from None
        return _to_dict(answer)

    def stream(self, method, request=None, deadline=None):
        """The answers of a streaming method, one by one."""
        function, make = self._method(method)
        try:
            for answer in function(make(request), timeout=deadline or self.deadline, metadata=self.metadata):
                yield _to_dict(answer)
        except grpc.RpcError as error:
            raise self._decoded(error) from None

    def close(self):
        self.channel.close()

    def messages(self, name):
        """The classes of a method's request and answer."""
        descriptor = self._descriptor(name)
        return tuple(map(message_factory.GetMessageClass, (descriptor.input_type, descriptor.output_type)))

    def _descriptor(self, name):
        service, _, method = name.partition("/")
        return self._pool.FindServiceByName(service).FindMethodByName(method)

    def _method(self, name):
        if name not in self._methods:
            request, response = self.messages(name)
            streams = self._descriptor(name).server_streaming
            make = self.channel.unary_stream if streams else self.channel.unary_unary
            function = make(
                f"/{name}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
            )
            self._methods[name] = (function, lambda body: json_format.ParseDict(body or {}, request()))
        return self._methods[name]

    def _decoded(self, error):
        details = {}
        status = rpc_status.from_call(error)
        for detail in status.details if status else []:
            name = detail.TypeName()
            details[name] = _to_dict(self._detail_class(name).FromString(detail.value))
        return RotaError(error.code().name, error.details(), details)

    def _detail_class(self, name):
        package, _, short = name.rpartition(".")
        if package == "google.rpc":
            return getattr(error_details_pb2, short)
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(name))


def _to_dict(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True)
