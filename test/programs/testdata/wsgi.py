"""A WSGI application with what requests_client.py asks for."""
import time


def app(environ, start_response):
    size = len(environ["wsgi.input"].read())
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/redirect":
        start_response("302 Found", [("location", "/echo")])
        return []
    if path == "/status/204":
        start_response("204 No Content", [])
        return []
    start_response("200 OK", [("set-cookie", "a=b")])
    text = f"{environ['REQUEST_METHOD']} {path} {query} {size} {environ.get('HTTP_COOKIE')} {environ['REMOTE_ADDR']}\n"
    return slowly(text.encode()) if path == "/stream" else [text.encode()]


def slowly(head):
    yield head
    for i in range(5):
        yield b"%d\n" % i
        time.sleep(0.02)
