package programs

var messageRows = []row{
	{
		name: "mosquitto",
		server: `printf 'listener 1883 0.0.0.0\nlistener 1883 ::\nlistener 8080\nprotocol websockets\nallow_anonymous true\n' >$OWN/c
exec mosquitto -c $OWN/c`,
		ports: []uint16{1883, 8080},
		cases: []testCase{
			{name: "publish", client: `mosquitto_sub -h $HOST -t 'a/#' -C 2 -W 5 -v >$OWN/heard & sleep 0.4; mosquitto_pub -h $HOST -t a/b -m hello; mosquitto_pub -h $HOST -t a/c -q 2 -m twice; wait; cat $OWN/heard`},
			{name: "v5", client: `mosquitto_pub -h $HOST -V 5 -t r/$SERVER -r -q 1 -m kept -D publish user-property k v; mosquitto_sub -h $HOST -V 5 -t r/$SERVER -C 1 -W 5 -F '%t %p %q %r %P'`},
			{name: "large", client: `seq 1 100000 >$OWN/in; mosquitto_sub -h $HOST -t big -C 1 -W 5 -N >$OWN/out & sleep 0.4; mosquitto_pub -h $HOST -t big -q 1 -f $OWN/in; wait; cmp $OWN/in $OWN/out`},
			{name: "will", client: `mosquitto_sub -h $HOST -t will -C 1 -W 5 >$OWN/heard & p=$!; sleep 0.3; timeout -s KILL 0.4 mosquitto_sub -h $HOST -t none --will-topic will --will-payload gone || :; wait $p; cat $OWN/heard`},
		},
	},
	{
		name:   "nats",
		server: `exec nats-server -a :: -p 4222`,
		ports:  []uint16{4222},
		cases: []testCase{
			{name: "publish", client: `printf 'CONNECT {"verbose":false}\r\nSUB news 1\r\nPUB news 5\r\nhello\r\nPING\r\n' | (cat; sleep 0.5) | busybox nc $HOST 4222 | sed 's/^INFO.*/INFO/'`},
			{name: "silent", client: `sleep 1 | busybox nc $HOST 4222 | cut -c1-5`},
		},
	},
}
