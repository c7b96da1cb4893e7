import sys
from concurrent import futures

import grpc

channel = grpc.insecure_channel(sys.argv[1])


def unary(method):
    return channel.unary_unary("/test.Test/" + method)


def show(call, request, **options):
    try:
        answer = call(request, timeout=10, **options)
        print(len(answer), answer[:50])
    except grpc.RpcError as e:
        print(e.code(), repr(e.details()))


for size in 0, 1000, 1000000, 4000000:
    show(unary("Echo"), b"x" * size)
show(unary("Echo"), b"x" * 10000, compression=grpc.Compression.Gzip)
show(unary("Fail"), b"5")
show(unary("Fail"), b"16")
show(unary("None"), b"")

answer, call = unary("Meta").with_call(b"", metadata=(("some-bin", b"\x00\x01\xff\n"), ("some", "a"), ("some", "b, c"), ("empty", "")))
print(*(line for line in answer.decode().splitlines() if not line.startswith("user-agent")), sep="\n")
print(sorted(map(tuple, call.initial_metadata())), sorted(map(tuple, call.trailing_metadata())))

print(channel.stream_unary("/test.Test/Sum")(iter([b"x" * 3000] * 2000)))
print(len(list(channel.unary_stream("/test.Test/Count")(b"5000"))))
print(len(list(channel.stream_stream("/test.Test/Echo")(iter([b"x"] * 500)))))

with futures.ThreadPoolExecutor(50) as pool:
    print(set(pool.map(lambda i: unary("Sleep")(b"10ms", timeout=10), range(100))))

flood = channel.unary_stream("/test.Test/Count")(b"100000000")
next(flood)
flood.cancel()
show(unary("Echo"), b"after")
try:
    unary("Sleep")(b"3000ms", timeout=0.2)
except grpc.RpcError as e:
    # The server has the deadline, too: who is first is a matter of luck.
    late = (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
    print("late" if e.code() in late else e.code())
show(unary("Echo"), b"after")
