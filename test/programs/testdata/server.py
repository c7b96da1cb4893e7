"""An HTTP/1.0 server of the standard library: its responses end with the connection."""
import http.server
import socket
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/status/204":
            self.send_response(204)
            self.end_headers()
            return
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("location", "/echo")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("set-cookie", "a=b")
        self.end_headers()
        self.wfile.write(f"{self.command} {self.path} {len(body)} {self.headers.get('cookie')} {self.client_address[0]}\n".encode())
        if self.path == "/stream":
            for i in range(5):
                self.wfile.write(b"%d\n" % i)

    do_GET = do_POST = do_PUT = do_DELETE = answer


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


Server(("::", int(sys.argv[1])), Handler).serve_forever()
