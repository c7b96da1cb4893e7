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

	"expect":          "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
	"continue":        "HTTP/1.1 100 Continue\r\n\r\n",
	"processing":      "HTTP/1.1 102 Processing\r\n\r\n",
	"hints":           "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
	"big":             "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig",
	"big-close":       "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig",
	"upgrade":         "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"switching":       "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	"ntlm-1":          "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: NTLM TlRMTVNTUAABAAAA\r\n\r\n",
	"ntlm-3":          "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: NTLM TlRMTVNTUAADAAAA\r\n\r\n",
	"negotiate":       "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Negotiate YII\r\n\r\n",
	"negotiate-post":  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nAuthorization: Negotiate YII\r\n\r\n",
	"ntlm-lower":      "GET / HTTP/1.1\r\nHost: x\r\nauthorization: ntlm TlRM\r\n\r\n",
	"proxy-ntlm-1":    "GET http://y/ HTTP/1.1\r\nHost: y\r\nProxy-Authorization: NTLM TlRMTVNTUAABAAAA\r\n\r\n",
	"proxy-ntlm-3":    "GET http://y/ HTTP/1.1\r\nHost: y\r\nProxy-Authorization: NTLM TlRMTVNTUAADAAAA\r\n\r\n",
	"asks-ntlm":       "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 2\r\n\r\ngo",
	"challenge":       "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM TlRMTVNTUAACAAAA\r\nContent-Length: 2\r\n\r\ngo",
	"proxy-challenge": "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: NTLM TlRMTVNTUAACAAAA\r\nContent-Length: 2\r\n\r\ngo",
	"alice":           "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nalice",
	"stranger":        "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nstranger",
	"connect":         "CONNECT y:80 HTTP/1.1\r\nHost: y:80\r\n\r\n",
}
