"""An HTTP/1.1 server that writes heads, bodies and chunks one by one, and leaves
Nagle's algorithm on."""
import http.server
import socket
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        if self.path == "/chunked":
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for part in b"2\r\n", b"ok", b"\r\n", b"0\r\n\r\n":
                self.wfile.write(part)
            return
        self.send_header("content-length", str(2 + len(body)))
        self.end_headers()
        self.wfile.write(b"ok" + body)

    do_GET = do_POST = answer


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 128


Server(("::", int(sys.argv[1])), Handler).serve_forever()
