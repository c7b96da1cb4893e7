"""A client whose head and body are two writes, with Nagle's algorithm on."""
import collections
import socket
import sys

host, port = sys.argv[1], int(sys.argv[2])


def connect():
    s = socket.create_connection((host, port), 30)
    return s, s.makefile("rb")


def request(s, reader, method, path, body=b""):
    head = f"{method} {path} HTTP/1.1\r\nHost: server\r\nContent-Length: {len(body)}\r\n\r\n"
    s.sendall(head.encode())
    if body:
        s.sendall(body)
    status = reader.readline().split()[1]
    length = 0
    while line := reader.readline().strip():
        name, value = line.lower().split(b": ")
        if name == b"content-length":
            length = int(value)
    if path == "/chunked":
        while reader.readline().strip() != b"0":
            reader.readline()
        reader.readline()
    return status, reader.read(length)


for method, path, body in ("GET", "/", b""), ("GET", "/chunked", b""), ("POST", "/", b"body"):
    answers = collections.Counter()
    for _ in range(80):
        s, reader = connect()
        answers[request(s, reader, method, path, body)] += 1
        s.close()
    print(method, path, "each on a connection of its own", answers)
s, reader = connect()
print(collections.Counter(request(s, reader, "GET", "/") for _ in range(80)))
