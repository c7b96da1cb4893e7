package programs

// ingress is the program of an ingress controller, configured to send requests to the pods
// of the Service web, at the addresses ADDR1 and ADDR2.
type ingress struct {
	name  string
	start string // in its pod, in the foreground, for sh -eu
	ports []uint16
	// web, tls, balanced and calls are the ports for HTTP/1 and WebSocket, for TLS, for what
	// comes with a PROXY header, and for gRPC; 0: it has none.
	web, tls, balanced, balancedTLS, calls uint16
	named                                  uint16 // for HTTP/1, where the authority is the Service's
	http2                                  bool   // web takes HTTP/2 without TLS, too
	full                                   bool   // it is run only with fullVariable
	rehost                                 bool   // web changes the authority to the Service's
}

// configured fills in a file of testdata/ingress.
func configured(file string) string {
	return `sed "s|OWN|$OWN|g;s|SHARED|$SHARED|g;s|ADDR1|$ADDR1|g;s|ADDR2|$ADDR2|g" $DATA/ingress/` + file + ` >$OWN/` + file + `
cd $OWN
`
}

var ingresses = []ingress{
	{
		name:  "nginx",
		start: configured("nginx.conf") + `exec nginx -c $OWN/nginx.conf`,
		ports: []uint16{8001, 8002, 8003, 8004, 8005},
		web:   8001, tls: 8002, balanced: 8003, balancedTLS: 8005, calls: 8004,
	},
	{
		name:  "haproxy",
		start: `cat $SHARED/cert.pem $SHARED/key.pem >$OWN/both.pem; ` + configured("haproxy.cfg") + `exec haproxy -q -db -f haproxy.cfg`,
		ports: []uint16{8101, 8102, 8103, 8104},
		web:   8101, tls: 8102, balanced: 8103, calls: 8104, full: true,
	},
	{
		name:  "caddy",
		start: configured("Caddyfile") + `XDG_CONFIG_HOME=$OWN XDG_DATA_HOME=$OWN HOME=$OWN exec caddy run --config Caddyfile --adapter caddyfile`,
		ports: []uint16{8201, 8202, 8204},
		web:   8201, tls: 8202, calls: 8204, http2: true, rehost: true, full: true,
	},
	{
		name: "envoy",
		start: python + ` $DATA/ingress/envoy.py $ADDR1 $ADDR2 $SHARED >$OWN/envoy.yaml
exec $PYTHONPATH/envoy/_bin/envoy -c $OWN/envoy.yaml --concurrency 1 --disable-hot-restart --log-level warning`,
		ports: []uint16{8301, 8302, 8303, 8304, 8305},
		web:   8301, tls: 8302, balanced: 8303, calls: 8304, named: 8305, http2: true,
	},
}
