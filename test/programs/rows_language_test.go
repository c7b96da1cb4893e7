package programs

const gunicorn = python + ` -m gunicorn --log-level warning --worker-tmp-dir /dev/shm --chdir $DATA`

var languageRows = []row{
	{
		name:   "python",
		server: `cd $OWN; seq 1 50000 >f.txt; touch -d 2020-01-01 f.txt; ` + python + ` $DATA/server.py 8003 & ` + python + ` -m uvicorn --log-level warning --app-dir $DATA --host '' --port 8002 asgi:app & ` + python + ` $DATA/aiohttp_server.py 8001 & ` + python + ` $DATA/two_writes.py 8004 & ` + gunicorn + ` --worker-class sync --bind '[::]:8005' wsgi:app & ` + gunicorn + ` --worker-class gthread --threads 8 --bind '[::]:8006' wsgi:app & exec ` + python + ` -m http.server --bind :: 8000`,
		ports:  []uint16{8000, 8001, 8002, 8003, 8004, 8005, 8006},
		cases: []testCase{
			{name: "http.server", client: `curl -sS http://$URLHOST:8000/f.txt | md5sum; curl -sS -o /dev/null -w '%{http_code} %{http_version}\n' http://$URLHOST:8000/none; curl -sS -X POST -o /dev/null -w '%{http_code}\n' http://$URLHOST:8000/`},
			{name: "requests", client: python + ` $DATA/requests_client.py http://$URLHOST:8001`},
			{name: "requests-old-server", client: python + ` $DATA/requests_client.py http://$URLHOST:8003`},
			{name: "aiohttp", client: python + ` $DATA/aiohttp_client.py http://$URLHOST:8001`},
			{name: "websockets", client: python + ` $DATA/ws_client.py ws://$URLHOST:8001/ws`},
			{name: "uvicorn", client: python + ` $DATA/requests_client.py http://$URLHOST:8002`},
			{name: "gunicorn", client: python + ` $DATA/requests_client.py http://$URLHOST:8005`},
			{name: "gunicorn-threads", client: python + ` $DATA/requests_client.py http://$URLHOST:8006; ` + python + ` $DATA/early_answer.py http://$URLHOST:8006 /echo /echo`},
			{name: "two-writes", client: python + ` $DATA/two_writes_client.py $HOST 8004`},
			{name: "uvicorn-websockets", client: python + ` $DATA/ws_client.py ws://$URLHOST:8002/ws`},
		},
	},
	{
		name:   "php",
		server: `exec php -d output_buffering=0 -S '[::]:8000' $DATA/index.php`,
		ports:  []uint16{8000},
		cases: []testCase{
			{name: "curl", client: `curl -sSi http://$URLHOST:8000/ | grep -v -e ^Connection -e ^Host`, masks: []string{httpDate}},
			{name: "post", client: `seq 1 20000 | curl -sS --data-binary @- http://$URLHOST:8000/length`},
			{name: "slow", client: `curl -sS --no-buffer http://$URLHOST:8000/slow`},
			{name: "length-and-chunked", client: `curl -sS http://$URLHOST:8000/both http://$URLHOST:8000/both -w ' %{http_code}\n'`},
		},
	},
	{
		name:   "node",
		server: `exec node $DATA/server.js`,
		ports:  []uint16{8000, 8001, 8002, 8003},
		cases: []testCase{
			{name: "http", client: `node $DATA/client.js http $HOST 8000`},
			{name: "http-abort", client: `node $DATA/client.js abort $HOST 8000`},
			{name: "http2", client: `node $DATA/client.js http2 $HOST 8001`},
			{name: "http2-1-stream", client: `node $DATA/client.js few $HOST 8002`},
			{name: "http2-20-streams", client: `node $DATA/client.js few $HOST 8003`},
			{name: "httpx-http2", client: python + ` $DATA/httpx_client.py http://$URLHOST:8001`},
			{name: "httpx-http2-1-stream", client: python + ` $DATA/httpx_client.py http://$URLHOST:8002`},
			{name: "httpx-http2-20-streams", client: python + ` $DATA/httpx_client.py http://$URLHOST:8003`},
			{name: "early-answer", client: `node $DATA/client.js early $HOST 8000`},
			{name: "leave", client: `node $DATA/client.js leave $HOST 8000`},
			{name: "leave-http2", client: `node $DATA/client.js leaveHttp2 $HOST 8001`},
			{name: "ws", client: `node $DATA/client.js ws $HOST 8000`},
			{name: "fetch", client: `node $DATA/client.js fetch $HOST 8000`},
		},
	},
	{
		name:    "java",
		prepare: `cp $DATA/*.java $SHARED/; cd $SHARED; javac -d classes *.java`,
		server: `java -Xshare:auto -XX:TieredStopAtLevel=1 -agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address='*:5005' -cp $SHARED/classes Loop >/dev/null &
exec java -XX:TieredStopAtLevel=1 -cp $SHARED/classes Server`,
		ports: []uint16{8000, 5005},
		cases: []testCase{
			{name: "http", client: `java -XX:TieredStopAtLevel=1 -cp $SHARED/classes Client http://$URLHOST:8000 HTTP_1_1`},
			{name: "http2-default", client: `java -XX:TieredStopAtLevel=1 -cp $SHARED/classes Client http://$URLHOST:8000 HTTP_2`},
			{name: "jdb", client: `(sleep 1; echo 'threads'; sleep 0.5; echo quit) | jdb -attach $HOST:5005 | grep -c main`, v4only: true},
		},
	},
}
