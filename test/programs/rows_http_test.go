package programs

// httpDate and the like are what no two responses have alike.
const httpDate = `(?i)(date|last-modified|etag|expires): [^\r\n]*`

// wwwTree is what the web servers serve.
const wwwTree = `
mkdir -p $SHARED/www/dir
cd $SHARED/www
echo hello >hello.txt
seq 1 200000 >big.txt
: >empty.txt
echo '<a href="hello.txt">x</a>' >dir/index.html
touch -d 2020-01-01 hello.txt big.txt empty.txt dir/index.html
printf 'alice:{PLAIN}secret\n' >$SHARED/htpasswd
chmod -R a+rX $SHARED
`

const certificate = `
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=server \
  -keyout $SHARED/key.pem -out $SHARED/cert.pem 2>/dev/null
chmod a+r $SHARED/*.pem
`

var httpRows = []row{
	{
		name:    "nginx",
		prepare: wwwTree + certificate,
		server:  `sed "s|OWN|$OWN|g;s|SHARED|$SHARED|g" $DATA/nginx.conf >$OWN/nginx.conf; exec nginx -c $OWN/nginx.conf`,
		ports:   []uint16{80, 81, 82, 84, 85, 443},
		cases: []testCase{
			{name: "curl", client: `curl -sS http://$URLHOST/hello.txt`},
			{name: "curl-headers", client: `curl -sSi http://$URLHOST/hello.txt`, masks: []string{httpDate}},
			{name: "curl-many", client: `curl -sS -o /dev/null -w '%{http_code} %{size_download} %{num_connects}\n' "http://$URLHOST/big.txt?[1-20]"`},
			{name: "curl-parallel", client: `curl -sS --no-progress-meter -Z -o $OWN/out#1 "http://$URLHOST/big.txt?[1-10]"; sha256sum <$OWN/out7`},
			{name: "curl-range", client: `curl -sSi -r 10-19,30-39 http://$URLHOST/big.txt | grep -v ^Connection`, masks: []string{httpDate, `0{5,}\d+`}},
			{name: "curl-compressed", client: `curl -sS --compressed http://$URLHOST/big.txt | sha256sum`},
			{name: "curl-head", client: `curl -sSI http://$URLHOST/big.txt | grep -v ^Connection`, masks: []string{httpDate}},
			{name: "curl-http1.0", client: `curl -sS -0 -w '%{http_version}' http://$URLHOST/hello.txt`},
			{name: "curl-put", client: `seq 1 300000 >$OWN/in; curl -sS -T $OWN/in -w '%{http_code}\n' http://$URLHOST/put/$SERVER && curl -sS http://$URLHOST/put/$SERVER | cmp - $OWN/in && curl -sS -X DELETE -w '%{http_code}\n' http://$URLHOST/put/$SERVER`},
			{name: "curl-put-chunked", client: `seq 1 300000 | curl -sS -T - -w '%{http_code}\n' http://$URLHOST/put/$SERVER && curl -sS http://$URLHOST/put/$SERVER | md5sum && curl -sS -X DELETE -w '%{http_code}\n' http://$URLHOST/put/$SERVER`},
			{name: "curl-too-large", client: `seq 1 300000 | curl -sS -o /dev/null -w '%{http_code}\n' --data-binary @- http://$URLHOST/small`},
			{
				// Each upload is answered early; what others send afterwards must not suffer.
				name: "curl-early-answer",
				client: `for size in 400 1000 2000 4000 400 1000 2000 4000 400 1000 2000 4000; do
head -c ${size}000 /dev/zero | curl -sS -o /dev/null -H Expect: -w '%{http_code} ' --data-binary @- http://$URLHOST/small || :
curl -sS -o /dev/null -d ab -w '%{http_code}\n' http://$URLHOST/ok
done`,
			},
			{name: "requests-early-answer", client: python + ` $DATA/early_answer.py http://$URLHOST /small /ok`},
			{name: "curl-redirect", client: `curl -sS -L -w '%{url_effective} %{num_redirects}' http://$URLHOST/dir`},
			{name: "curl-auth", client: `curl -sS -o /dev/null -w '%{http_code} ' http://$URLHOST/auth/ -u alice:no http://$URLHOST/auth/; curl -sS -u alice:secret http://$URLHOST/auth/`},
			{name: "curl-refused", client: `curl -sf -m 5 http://$URLHOST:83/ || echo failed`},
			{name: "curl-closed", client: `curl -sS -i http://$URLHOST/444`},
			{name: "curl-h2c", client: `curl -sS --http2-prior-knowledge -w '%{http_version} %{size_download}\n' -o /dev/null http://$URLHOST:81/big.txt http://$URLHOST:81/hello.txt`},
			{name: "curl-proxy-protocol", client: `curl -sS --haproxy-protocol http://$URLHOST:82/peer`, masks: []string{`:\d+$`}},
			{name: "curl-peer", client: `curl -sS http://$URLHOST/peer`},
			{name: "node-1-stream", client: `node $DATA/client.js few $HOST 84 /hello.txt`},
			{name: "node-20-streams", client: `node $DATA/client.js few $HOST 85 /big.txt`},
			{name: "h2load", client: `h2load -n 100 -c 4 -m 25 http://$URLHOST:81/big.txt | grep -E '^(requests|status)'`},
			{name: "curl-https-h2", client: `curl -sS --cacert $SHARED/cert.pem --connect-to server:443:$URLHOST:443 -w '%{http_version} %{size_download}\n' -o /dev/null https://server/big.txt https://server/hello.txt`},
			{name: "curl-https-stranger", client: `curl -sS https://$URLHOST/`},
			{name: "wget", client: `cd $OWN; wget -nv -r -nH http://$URLHOST/dir/ 2>&1 | sed 's/^[^U]*//'; find . -type f | sort`, masks: []string{`in [0-9.]*s`}},
			{name: "busybox-wget", client: `busybox wget -q -O - http://$URLHOST/hello.txt; busybox wget -q -O - http://$URLHOST/none`},
			{name: "busybox-nc", client: `printf 'GET /hello.txt HTTP/1.0\r\n\r\n' | busybox nc $HOST 80`, masks: []string{httpDate}},
			{name: "nc-pipelined", client: `printf 'GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\nGET /empty.txt HTTP/1.1\r\nHost: a\r\n\r\nGET /hello.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' | busybox nc $HOST 80 | grep -v ^Connection`, masks: []string{httpDate}},
			{name: "nc-bad-request", client: `printf 'GET /\001 HTTP/1.1\r\nHost: a b\r\n\r\n' | busybox nc $HOST 80 | head -1`},
		},
	},
	{
		name:    "apache",
		prepare: wwwTree + `install -m 755 $DATA/env.cgi $SHARED/env.cgi; htdigest -h >/dev/null 2>&1 || :; printf 'alice:realm:%s\n' $(printf alice:realm:secret | md5sum | cut -d' ' -f1) >$SHARED/digest; chmod -R a+rX $SHARED`,
		server:  `sed "s|OWN|$OWN|g;s|SHARED|$SHARED|g" $DATA/apache.conf >$OWN/apache.conf; exec apache2 -D FOREGROUND -f $OWN/apache.conf`,
		ports:   []uint16{80},
		cases: []testCase{
			{name: "curl", client: `curl -sSi http://$URLHOST/hello.txt`, masks: []string{httpDate}},
			{name: "cgi", client: `curl -sS -A me -H 'X-Odd:  a  b ' -H 'X-Empty;' -H 'Cookie: a=b' -H 'Cookie: c=d' "http://$URLHOST/env.cgi/a%2fb/?x=%20&&y"`, masks: []string{`REMOTE_PORT=\d+`}},
			{name: "cgi-post", client: `seq 1 100000 | curl -sS -A me --data-binary @- http://$URLHOST/env.cgi | grep -E 'LENGTH|SUM|METHOD'`},
			{name: "cgi-post-chunked", client: `seq 1 100000 | curl -sS -A me -H 'Transfer-Encoding: chunked' --data-binary @- http://$URLHOST/env.cgi | grep -E 'LENGTH|SUM|METHOD'`},
			{name: "digest", client: `curl -sS --digest -u alice:secret http://$URLHOST/digest/hello.txt; curl -sS --digest -u alice:no -o /dev/null -w '%{http_code}\n' http://$URLHOST/digest/hello.txt`},
			{name: "h2c", client: `curl -sS --http2-prior-knowledge -w '%{http_version}\n' http://$URLHOST/hello.txt`},
			{name: "h2c-upgrade", client: `curl -sS --http2 -H 'Host: server' -w '%{http_version}\n' http://$URLHOST/hello.txt`},
			{name: "trace", client: `curl -sS -X TRACE -A me http://$URLHOST/x`},
			{name: "options", client: `curl -sS -i -X OPTIONS --request-target '*' http://$URLHOST/ | grep -iv -e ^connection -e ^upgrade`, masks: []string{httpDate}},
			// They close their side after the request.
			{name: "busybox-wget-slow", client: `busybox wget -q -O - "http://$URLHOST/env.cgi?slow"`},
			{name: "busybox-wget-post-slow", client: `busybox wget -q -O - --post-data=hello "http://$URLHOST/env.cgi?slow"`},
			{name: "nc-half-close-slow", client: `printf 'GET /env.cgi?slow HTTP/1.0\r\n\r\n' | nc -N $HOST 80 | tail -1`},
			{name: "slow-cgi", client: `curl -sS --no-buffer "http://$URLHOST/env.cgi?sleep" | while read -r line; do echo "$line"; done`},
			{name: "wget-continue", client: `cd $OWN; wget -nv -O big.txt http://$URLHOST/big.txt 2>/dev/null; truncate -s 1000 big.txt; wget -q -c -O big.txt http://$URLHOST/big.txt; md5sum <big.txt`},
		},
	},
}
