package programs

var tcpRows = []row{
	{
		name:    "openssl",
		prepare: certificate,
		server: `openssl s_server -quiet -www -accept 8443 -cert $SHARED/cert.pem -key $SHARED/key.pem &
exec openssl s_server -quiet -rev -accept 8444 -cert $SHARED/cert.pem -key $SHARED/key.pem`,
		ports: []uint16{8443, 8444},
		cases: []testCase{
			{name: "tls1.3", client: `(echo hello; sleep 1.5) | openssl s_client -quiet -connect $URLHOST:8444 -CAfile $SHARED/cert.pem -tls1_3 -no_ign_eof 2>&1`},
			{name: "tls1.2", client: `(echo hello; sleep 1.5) | openssl s_client -quiet -connect $URLHOST:8444 -CAfile $SHARED/cert.pem -tls1_2 -no_ign_eof 2>&1`},
			{name: "version-refused", client: `openssl s_client -quiet -connect $URLHOST:8444 -tls1_1 </dev/null >/dev/null 2>&1 || echo failed`},
			{name: "plaintext", client: `echo hello | busybox nc $HOST 8444 | od -c`},
			{name: "curl", client: `curl -sS --cacert $SHARED/cert.pem --connect-to server:8443:$URLHOST:8443 https://server:8443/ | grep -c Ciphers`},
		},
	},
	{
		name:    "slapd",
		prepare: certificate,
		server: `mkdir $OWN/db; cat >$OWN/conf <<EOF
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile $OWN/pid
TLSCertificateFile $SHARED/cert.pem
TLSCertificateKeyFile $SHARED/key.pem
database mdb
suffix "dc=example"
rootdn "cn=admin,dc=example"
rootpw secret
maxsize 10000000
directory $OWN/db
EOF
exec slapd -d 0 -f $OWN/conf -h 'ldap://:389/ ldaps://:636/'`,
		ports: []uint16{389, 636},
		ready: `printf 'dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: example\n' | ldapadd -c -x -H ldap://127.0.0.1 -D cn=admin,dc=example -w secret || ldapsearch -x -H ldap://127.0.0.1 -b dc=example`,
		cases: []testCase{
			{name: "search", client: `ldapsearch -x -LLL -H ldap://$URLHOST -b dc=example`},
			{name: "starttls", client: `LDAPTLS_REQCERT=allow ldapsearch -x -LLL -ZZ -H ldap://$URLHOST -b dc=example`},
			{name: "ldaps", client: `LDAPTLS_REQCERT=allow ldapsearch -x -LLL -H ldaps://$URLHOST -b dc=example`},
			{name: "paged", client: `for i in $(seq 200); do printf 'dn: o=p%s,dc=example\nobjectClass: organization\no: p%s\n\n' $i $i; done | ldapadd -c -x -H ldap://$URLHOST -D cn=admin,dc=example -w secret >/dev/null 2>&1 || :; ldapsearch -x -LLL -E pr=30/noprompt -H ldap://$URLHOST -b dc=example '(o=p*)' o | grep -c ^dn`},
			{name: "wrong-password", client: `ldapsearch -x -H ldap://$URLHOST -D cn=admin,dc=example -w no -b dc=example`},
			{name: "add-delete", client: `printf 'dn: o=a%s,dc=example\nobjectClass: organization\no: a%s\n' $$ $$ | ldapadd -x -H ldap://$URLHOST -D cn=admin,dc=example -w secret; ldapdelete -x -H ldap://$URLHOST -D cn=admin,dc=example -w secret "o=a$$,dc=example"`, masks: []string{`o=a\d+`}},
			{name: "whoami", client: `ldapwhoami -x -H ldap://$URLHOST -D cn=admin,dc=example -w secret`},
		},
	},
	{
		// Servers that are programs of the shell: what a connection carries is all
		// there is.
		name: "socat",
		server: `listen() { socat -t 10 TCP6-LISTEN:$1,fork,reuseaddr,ipv6only=0 "$2"; }
listen 7001 EXEC:cat &
listen 7002 'SYSTEM:echo hello' &
listen 7003 EXEC:md5sum &
listen 7004 'SYSTEM:sleep 0.5; echo late' &
listen 7005 'SYSTEM:read -r line; echo "got $line"' &
listen 7006 "EXEC:sh $DATA/web_server.sh" &
wait`,
		ports: []uint16{7001, 7002, 7003, 7004, 7005, 7006},
		cases: []testCase{
			{name: "echo", client: `seq 1 10000 | busybox nc $HOST 7001 | md5sum`},
			{name: "speaks-first", client: `busybox nc $HOST 7002 </dev/null`},
			{name: "half-close", client: `seq 1 100000 | busybox nc $HOST 7003`},
			{name: "nothing-sent", client: `busybox nc $HOST 7003 </dev/null`},
			{name: "silent-server", client: `echo hello | busybox nc $HOST 7004`},
			{name: "line", client: `echo hello | busybox nc $HOST 7005`},
			{name: "word", client: `(printf 'ruok\n'; sleep 1) | busybox nc $HOST 7005`},
			{name: "half-words", client: `(printf 'ru'; sleep 0.2; printf 'ok\n'; sleep 0.5) | busybox nc $HOST 7005`},
			{name: "web-server", client: `curl -sS http://$URLHOST:7006/; busybox wget -q -O - http://$URLHOST:7006/`},
			{name: "socat-client", client: `seq 1 100000 | socat -t 10 - TCP:$URLHOST:7003`},
		},
	},
}
