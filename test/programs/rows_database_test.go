package programs

var databaseRows = []row{
	{
		name: "postgresql",
		prepare: certificate + `
chown postgres $SHARED
export PATH=/usr/lib/postgresql/$(ls /usr/lib/postgresql | tail -1)/bin:$PATH
echo secret >$SHARED/password
install -m 600 -o postgres $SHARED/key.pem $SHARED/pgkey.pem
setpriv --reuid postgres --regid postgres --clear-groups initdb -D $SHARED/data -A scram-sha-256 --pwfile $SHARED/password -U alice --no-sync >/dev/null
cat >>$SHARED/data/postgresql.conf <<'EOF'
listen_addresses = '*'
ssl = on
ssl_cert_file = '../../shared/cert.pem'
ssl_key_file = '../../shared/pgkey.pem'
fsync = off
shared_buffers = 16MB
EOF
sed -i 's/^ssl_\(.*\)_file = .*shared/ssl_\1_file = '"'"'SHARED/' $SHARED/data/postgresql.conf
sed -i "s|SHARED|$SHARED|" $SHARED/data/postgresql.conf
printf 'local all all trust\nhost all all all scram-sha-256\n' >$SHARED/data/pg_hba.conf`,
		server: `
export PATH=/usr/lib/postgresql/$(ls /usr/lib/postgresql | tail -1)/bin:$PATH
cp -a $SHARED/data $OWN/data
chown postgres $OWN
exec setpriv --reuid postgres --regid postgres --clear-groups postgres -D $OWN/data -k $OWN`,
		ports: []uint16{5432},
		ready: `psql -h $OWN -U alice postgres -c 'select 1'`,
		cases: []testCase{
			{name: "select", client: psql("sslmode=disable", `-c 'select version(), inet_client_addr(), inet_server_addr()'`)},
			{name: "tls", client: psql("sslmode=require", `-c 'select ssl, version from pg_stat_ssl where pid = pg_backend_pid()'`)},
			{name: "tls-verified", client: psql("sslmode=verify-ca sslrootcert=$SHARED/cert.pem", `-c 'select 1'`)},
			{name: "wrong-password", client: `PGPASSWORD=no psql "host=$HOST user=alice dbname=postgres" -c 'select 1'`},
			{name: "many-rows", client: psql("sslmode=disable", `-Atc 'select * from generate_series(1, 200000)' | md5sum`)},
			{name: "copy", client: psql("sslmode=disable", `-c 'create temp table t (n int)' -c '\copy t from program '"'seq 1 100000'" -c 'select sum(n) from t' -c '\copy t to program '"'md5sum >&2'"`)},
			{name: "copy-binary-tls", client: psql("sslmode=require", `-c 'create temp table t as select n, repeat(chr(97 + n % 20), n % 100) s from generate_series(1, 50000) n' -c '\copy t to '$OWN/f' binary' -c 'truncate t' -c '\copy t from '$OWN/f' binary' -c 'select count(*), sum(n), md5(string_agg(s, null)) from t'`)},
			{name: "error", client: psql("sslmode=disable", `-c 'select nothing'`)},
			{
				// psql looks for notifications when it has something to do.
				name: "notify", masks: []string{`PID \d+`}, client: `: >$OWN/heard; mkfifo $OWN/in; PGPASSWORD=secret psql -X -At "host=$HOST user=alice dbname=postgres sslmode=disable" <$OWN/in >$OWN/heard & exec 3>$OWN/in
echo 'listen news;' >&3; until grep -q LISTEN $OWN/heard; do sleep 0.02; done
` + psql("sslmode=disable", `-c "notify news, 'hello'"`) + `
until grep -q hello $OWN/heard; do echo 'select 1;' >&3; sleep 0.05; done; exec 3>&-; wait; grep -v '^1$' $OWN/heard`,
			},
			{name: "cancel", client: `export PGPASSWORD=secret; psql -X "host=$HOST user=alice dbname=postgres sslmode=disable" -c "select pg_sleep(30), 'long'" & p=$!
until [ "$(` + psql("sslmode=disable", `-Atc "select count(*) from pg_stat_activity where query like '%long%' and state = 'active' and pid <> pg_backend_pid()"`) + `)" = 1 ]; do sleep 0.05; done; kill -INT $p; wait $p`},
			{
				// A client that is killed: its session ends at the server.
				name: "disconnect", client: `: >$OWN/out; (echo "set application_name = 'gone$SERVER'; begin; select 1;"; sleep 10) | PGPASSWORD=secret psql -X -At "host=$HOST user=alice dbname=postgres sslmode=disable" >$OWN/out & p=$!
while ! grep -q 1 $OWN/out; do sleep 0.05; done; kill -9 $p
for i in $(seq 40); do n=$(` + psql("sslmode=disable", `-Atc "select count(*) from pg_stat_activity where application_name = 'gone$SERVER'"`) + `); [ $n != 0 ] || break; sleep 0.05; done; echo $n left`,
			},
			{name: "idle", client: `(echo 'select 1;'; sleep 1.5; echo 'select 2;') | PGPASSWORD=secret psql -At "host=$HOST user=alice dbname=postgres sslmode=disable"`},
			{name: "pgbench", client: `PGPASSWORD=secret PGHOST=$HOST pgbench -n -f $DATA/pgbench.sql -c 4 -t 50 -U alice postgres | grep processed`},
		},
	},
	{
		name:    "mariadb",
		prepare: certificate + `mariadb-install-db --no-defaults --user=mysql --datadir=$SHARED/data --auth-root-authentication-method=normal --skip-test-db >/dev/null 2>&1`,
		server:  `cp -a $SHARED/data $OWN/data; chown mysql $OWN; printf "create user alice@'%%' identified by 'secret';\ngrant all on *.* to alice@'%%';\ncreate database db;\n" >$OWN/init.sql; chmod a+r $OWN/init.sql; exec mariadbd --no-defaults --user=mysql --datadir=$OWN/data --socket=$OWN/sock --pid-file=$OWN/pid --bind-address='*' --port=3306 --skip-log-bin --skip-name-resolve --innodb-buffer-pool-size=8M --innodb-flush-log-at-trx-commit=0 --init-file=$OWN/init.sql --ssl-cert=$SHARED/cert.pem --ssl-key=$SHARED/key.pem --local-infile=1 --performance-schema=off`,
		ports:   []uint16{3306},
		ready:   `mariadb --no-defaults -S $OWN/sock -u root -e 'use db'`,
		cases: []testCase{
			{name: "select", client: mariadb(`-e 'select version(), user()'`)},
			{name: "tls", client: mariadb(`--ssl-ca=$SHARED/cert.pem -e "show status like 'Ssl_version'; select repeat('x', 3000000)" | md5sum`)},
			{name: "tls-stranger", client: mariadb(`--ssl-ca=$DATA/nginx.conf -e 'select 1'`)},
			{name: "load-data", client: `seq 1 100000 >$OWN/f; ` + mariadb(`--local-infile=1 db -e "create temporary table t (n int); load data local infile '$OWN/f' into table t; select count(*), sum(n) from t"`)},
			{
				name: "disconnect", client: `: >$OWN/out; (echo "select get_lock('gone$SERVER', 0);"; sleep 10) | ` + mariadb(`-N -n`) + ` >$OWN/out & p=$!
while ! grep -q 1 $OWN/out; do sleep 0.05; done; kill -9 $p; ` + mariadb(`-N -e "select get_lock('gone$SERVER', 3)"`),
			},
			{name: "wrong-password", client: `mariadb --no-defaults -h $HOST -u alice -pno -e 'select 1'`},
			{name: "large", client: mariadb(`-e "select repeat('x', 3000000)" | md5sum`)},
			{name: "transaction", client: mariadb(`db -e "create or replace table t_$$ (n int); start transaction; insert into t_$$ values (1),(2); select sum(n) from t_$$; rollback; select count(*) from t_$$; drop table t_$$"`)},
			{name: "compressed", client: mariadb(`-C -e "select repeat('x', 30000)" | md5sum`)},
			{name: "error", client: mariadb(`-e 'select nothing'`)},
			{name: "dump", client: `mariadb-dump --no-defaults -h $HOST -u alice -psecret mysql help_topic | md5sum`, masks: []string{`[0-9a-f]{32}`}},
		},
	},
	{
		name:    "redis",
		prepare: certificate,
		server:  `exec redis-server --port 6379 --tls-port 6380 --tls-cert-file $SHARED/cert.pem --tls-key-file $SHARED/key.pem --tls-ca-cert-file $SHARED/cert.pem --tls-auth-clients no --bind '*' -::* --protected-mode no --save '' --dir $OWN`,
		ports:   []uint16{6379, 6380},
		cases: []testCase{
			{name: "get-set", client: `redis-cli -h $HOST set k$SERVER v; redis-cli -h $HOST get k$SERVER; redis-cli -h $HOST get none`},
			{name: "tls", client: `redis-cli -h $HOST -p 6380 --tls --cacert $SHARED/cert.pem --sni server ping`},
			{name: "disconnect", client: `redis-cli -h $HOST blpop gone$SERVER 30 & p=$!; blocked() { redis-cli -h $HOST info clients | sed -n 's/^blocked_clients:\(.*\)\r/\1/p'; }; while [ $(blocked) = 0 ]; do sleep 0.05; done; kill -9 $p; for i in $(seq 40); do n=$(blocked); [ $n != 0 ] || break; sleep 0.05; done; echo $n blocked`},
			{name: "monitor", client: `: >$OWN/seen; redis-cli -h $HOST monitor >$OWN/seen & until grep -q seen $OWN/seen; do redis-cli -h $HOST get seen >$OWN/out; sleep 0.05; done; kill $!; grep -m1 -o '"get" "seen"' $OWN/seen`},
			{name: "resp3", client: `redis-cli -3 -h $HOST --json config get port`},
			{name: "large", client: `seq 1 300000 >$OWN/in; redis-cli -h $HOST -x set big <$OWN/in; redis-cli -h $HOST get big | head -c -1 | cmp - $OWN/in`},
			{name: "pipe", client: `seq 1 20000 | sed 's/.*/SET k& v&/' | redis-cli -h $HOST --pipe; redis-cli -h $HOST get k20000`},
			{name: "subscribe", client: `: >$OWN/heard; redis-cli -h $HOST subscribe news >$OWN/heard & until [ "$(redis-cli -h $HOST publish news hello)" = 1 ]; do sleep 0.05; done; until grep -q hello $OWN/heard; do sleep 0.05; done; kill $!; cat $OWN/heard`},
			{name: "blocking-pop", client: `redis-cli -h $HOST blpop list$SERVER 5 >$OWN/popped & sleep 0.3; redis-cli -h $HOST rpush list$SERVER x; wait; cat $OWN/popped`},
			{name: "transaction", client: `printf 'MULTI\nINCR n\nINCRBY n 5\nEXEC\nDEL n\n' | redis-cli -h $HOST`},
			{name: "inline-ping", client: `printf 'PING\r\nQUIT\r\n' | busybox nc $HOST 6379`},
			{name: "benchmark", client: `redis-benchmark -h $HOST -q -n 2000 -c 10 -t get | tr '\r' '\n' | grep -c 'requests per second'`},
		},
	},
	{
		name:   "memcached",
		server: `exec memcached -u nobody -p 11211 -U 0 -l 0.0.0.0 -l ::`,
		ports:  []uint16{11211},
		cases: []testCase{
			{name: "text", client: `printf 'set k 0 0 5\r\nhello\r\nget k\r\ndelete k\r\nget k\r\nquit\r\n' | busybox nc $HOST 11211`},
			{name: "one-word", client: `printf 'version\r\n' | timeout 20 busybox nc $HOST 11211 | head -1`},
			{name: "binary", client: `printf '\200\013\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\200\007\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0' | busybox nc $HOST 11211 | od -c`},
			{name: "pymemcache", client: python + ` $DATA/memcache_client.py $HOST`},
			{name: "libmemcached", v4only: true, client: `seq 1 10000 >$OWN/f; memccp --servers=$HOST --set $OWN/f; memccat --servers=$HOST f | cmp - $OWN/f; memcping --servers=$HOST`},
		},
	},
}

func psql(settings, args string) string {
	return `PGPASSWORD=secret psql -X "host=$HOST user=alice dbname=postgres ` + settings + `" ` + args
}

func mariadb(args string) string {
	return `mariadb --no-defaults -h $HOST -u alice -psecret ` + args
}
