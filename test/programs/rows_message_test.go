package programs

// subscribed starts a subscriber in the background, and goes on when it has
// subscribed.
const subscribed = `
subscribe() { : >$OWN/heard; stdbuf -oL mosquitto_sub -d -h $HOST "$@" >$OWN/heard & until grep -q ^Subscribed $OWN/heard; do sleep 0.02; done; }
heard() { grep -v -e ^Client -e ^Subscribed $OWN/heard; }
`

var messageRows = []row{
	{
		name:    "mosquitto",
		prepare: certificate,
		server: `printf "listener 1883 0.0.0.0\nlistener 1883 ::\nlistener 8080\nprotocol websockets\nlistener 8883\ncertfile $SHARED/cert.pem\nkeyfile $SHARED/key.pem\nallow_anonymous true\n" >$OWN/c
exec mosquitto -c $OWN/c`,
		ports: []uint16{1883, 8080, 8883},
		cases: []testCase{
			{name: "publish", client: subscribed + `subscribe -t 'a/#' -C 2 -W 30 -v; mosquitto_pub -h $HOST -t a/b -m hello; mosquitto_pub -h $HOST -t a/c -q 2 -m twice; wait; heard`},
			{name: "v5", client: `mosquitto_pub -h $HOST -V 5 -t r/$SERVER -r -q 1 -m kept -D publish user-property k v; mosquitto_sub -h $HOST -V 5 -t r/$SERVER -C 1 -W 30 -F '%t %p %q %r %P'`},
			{name: "large", client: `seq 1 100000 >$OWN/in; session="-h $HOST -i big -c -q 1 -t big -W 30"; mosquitto_sub $session -E; mosquitto_pub -h $HOST -t big -q 1 -f $OWN/in; mosquitto_sub $session -C 1 -N >$OWN/out; cmp $OWN/in $OWN/out`},
			{name: "tls", client: `tls="-h $HOST -p 8883 --cafile $SHARED/cert.pem --insecure -t tls"; mosquitto_pub $tls -r -q 1 -m hello; mosquitto_sub $tls -C 1 -W 30`},
			{name: "paho", client: python + ` $DATA/mqtt_client.py $HOST 1883 tcp`},
			{name: "paho-websockets", client: python + ` $DATA/mqtt_client.py $HOST 8080 websockets`},
			{name: "will", client: subscribed + `subscribe -t will -C 1 -W 30; first=$!; mv $OWN/heard $OWN/first; subscribe -t none --will-topic will --will-payload gone; kill -9 $!; wait $first; mv $OWN/first $OWN/heard; heard`},
		},
	},
	{
		name:   "nats",
		server: `exec nats-server -a :: -p 4222 -js -sd $OWN`,
		ports:  []uint16{4222},
		cases: []testCase{
			{name: "publish", client: `printf 'CONNECT {"verbose":false}\r\nSUB news 1\r\nPUB news 5\r\nhello\r\nPING\r\n' | (cat; sleep 1) | busybox nc $HOST 4222 | sed 's/^INFO.*/INFO/'`},
			{name: "nats-py", client: python + ` $DATA/nats_client.py nats://$URLHOST:4222`},
			{name: "silent", client: `sleep 1 | busybox nc $HOST 4222 | cut -c1-5`},
		},
	},
}
