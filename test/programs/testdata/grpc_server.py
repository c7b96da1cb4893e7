"""The part of grpctest's server that grpc_client.py and grpctest's cases use, on grpcio."""
import time
from concurrent import futures

import grpc


def echo(messages, context):
    yield from messages


def total(messages, context):
    yield str(sum(len(m) for m in messages)).encode()


def count(messages, context):
    for m in messages:
        for i in range(int(m)):
            yield str(i).encode()


def meta(messages, context):
    lines = sorted(f"{k}={v!r}" for k, v in context.invocation_metadata() if k != "user-agent")
    context.send_initial_metadata((("head", "1"), ("head-bin", b"\x00\x01\xff\r\n")))
    context.set_trailing_metadata((("trailer", "3"), ("trailer-bin", b"\x00\xff")))
    for m in messages:
        yield "\n".join(lines).encode()


def fail(messages, context):
    for m in messages:
        code = next(c for c in grpc.StatusCode if c.value[0] == int(m))
        context.abort(code, "as asked: ü %\n")
    yield b""


def sleep(messages, context):
    for m in messages:
        time.sleep(float(m.removesuffix(b"ms")) / 1000)
        yield m


def fail_late(messages, context):
    yield from messages
    context.abort(grpc.StatusCode.DATA_LOSS, "late")


handlers = {"Echo": echo, "Sum": total, "Count": count, "Meta": meta, "Fail": fail, "FailLate": fail_late, "Sleep": sleep}
server = grpc.server(futures.ThreadPoolExecutor(32))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
    "test.Test", {name: grpc.stream_stream_rpc_method_handler(f) for name, f in handlers.items()}),))
server.add_insecure_port("[::]:9010")
server.start()
server.wait_for_termination()
