package script

// constants are the messages that many scripts have in common: $name.
var constants = map[string]string{
	"get":      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	"get-b":    "GET /b HTTP/1.1\r\nHost: x\r\n\r\n",
	"get-10":   "GET / HTTP/1.0\r\nHost: x\r\n\r\n",
	"head":     "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
	"post-5":   "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
	"post-1m":  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
	"post-te":  "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
	"ok":       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"ok-close": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	"head-10":  "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
	"head-te":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	"head-all": "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", // to the end of the stream
}
