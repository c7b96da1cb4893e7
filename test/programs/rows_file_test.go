package programs

var fileRows = []row{
	{
		name: "git",
		prepare: `
export HOME=$SHARED
git config --global user.email a@example.com; git config --global user.name a; git config --global init.defaultBranch main; git config --global safe.directory '*'
mkdir -p $SHARED/work && cd $SHARED/work && git init -q
for i in 1 2 3 4 5; do seq 1 ${i}000 >f$i; git add f$i; GIT_AUTHOR_DATE=2020-01-0${i}T00:00:00Z GIT_COMMITTER_DATE=2020-01-0${i}T00:00:00Z git commit -qm "c$i"; done
git clone -q --bare . $SHARED/x.git && touch $SHARED/x.git/git-daemon-export-ok && chmod -R a+rX $SHARED`,
		server: `export HOME=$SHARED; cp -a $SHARED/x.git $OWN/; exec git daemon --reuseaddr --base-path=$OWN --enable=receive-pack`,
		ports:  []uint16{9418},
		cases: []testCase{
			{name: "ls-remote", client: `git ls-remote git://$URLHOST/x.git`},
			{name: "ls-remote-v0", client: `git -c protocol.version=0 ls-remote git://$URLHOST/x.git`},
			{name: "clone", client: `git clone -q git://$URLHOST/x.git $OWN/c; git -C $OWN/c log --oneline | cat`},
			{name: "shallow", client: `git clone -q --depth 1 git://$URLHOST/x.git $OWN/c; git -C $OWN/c log --oneline | cat`},
			{name: "push", client: `export HOME=$SHARED; git -C $SHARED/work push git://$URLHOST/x.git HEAD:refs/heads/b$$ 2>&1`, masks: []string{`b\d+\b`}},
			{name: "none", client: `git ls-remote git://$URLHOST/none.git`},
		},
	},
	{
		name: "git-http",
		prepare: `
export HOME=$SHARED
git config --global user.email a@example.com; git config --global user.name a; git config --global init.defaultBranch main; git config --global safe.directory '*'
mkdir -p $SHARED/work && cd $SHARED/work && git init -q
for i in 1 2 3 4 5; do seq 1 ${i}0000 >f$i; git add f$i; GIT_AUTHOR_DATE=2020-01-0${i}T00:00:00Z GIT_COMMITTER_DATE=2020-01-0${i}T00:00:00Z git commit -qm "c$i"; done
mkdir $SHARED/www; git clone -q --bare . $SHARED/x.git && git -C $SHARED/x.git config http.receivepack true && chmod -R a+rX $SHARED`,
		server: `cp -a $SHARED/x.git $OWN/; chown -R www-data $OWN/x.git; sed "s|OWN|$OWN|g;s|SHARED|$SHARED|g" $DATA/apache.conf >$OWN/apache.conf
cat >>$OWN/apache.conf <<EOF
LoadModule env_module /usr/lib/apache2/modules/mod_env.so
SetEnv GIT_PROJECT_ROOT $OWN
SetEnv GIT_HTTP_EXPORT_ALL 1
SetEnv HOME $SHARED
ScriptAlias /git/ /usr/lib/git-core/git-http-backend/
EOF
exec apache2 -D FOREGROUND -f $OWN/apache.conf`,
		ports: []uint16{80},
		cases: []testCase{
			{name: "clone", client: `git clone -q http://$URLHOST/git/x.git $OWN/c; git -C $OWN/c log --oneline | cat`},
			{name: "shallow", client: `git clone -q --depth 2 http://$URLHOST/git/x.git $OWN/c; git -C $OWN/c log --oneline | cat`},
			{name: "push", client: `export HOME=$SHARED; cp -a $SHARED/work $OWN/w; cd $OWN/w; git commit -q --allow-empty -m x; git -c http.postBuffer=1000 push http://$URLHOST/git/x.git HEAD:refs/heads/b$$ 2>&1`, masks: []string{`b\d+\b`}},
			{name: "none", client: `git ls-remote http://$URLHOST/git/none.git`},
		},
	},
	{
		name: "ssh",
		prepare: `mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f $SHARED/host; ssh-keygen -q -t ed25519 -N '' -f $SHARED/user; install -m 600 $SHARED/user.pub $SHARED/authorized
echo 'exec /usr/sbin/sshd -D -e -f /dev/null -p 22 -h '$SHARED/host' -o AuthorizedKeysFile='$SHARED/authorized' -o StrictModes=no -o UsePAM=no -o PidFile=none -o PermitRootLogin=yes -o SetEnv=HOME=/nonexistent -o Subsystem="sftp internal-sftp"' >$SHARED/sshd
echo 'ssh -F /dev/null -i '$SHARED/user' -o IdentitiesOnly=yes -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR "$@"' >$SHARED/ssh
mkdir $SHARED/tree; for i in 1 2 3; do seq 1 ${i}0000 >$SHARED/tree/f$i; done; touch -d 2020-01-01 $SHARED/tree/*; chmod -R 755 $SHARED/tree`,
		server: `. $SHARED/sshd`,
		ports:  []uint16{22},
		cases: []testCase{
			{name: "command", client: `sh $SHARED/ssh root@$HOST 'echo $SSH_CONNECTION | cut -d" " -f1,3,4; exit 3'`},
			{name: "stdin", client: `seq 1 200000 | sh $SHARED/ssh root@$HOST md5sum`},
			{name: "forward", client: `port=2222; [ $SERVER = near ] || port=2223; sh $SHARED/ssh -o ExitOnForwardFailure=yes -N -L 127.0.0.1:$port:127.0.0.1:22 root@$HOST & p=$!; until nc -z 127.0.0.1 $port; do sleep 0.05; done; sh $SHARED/ssh -p $port root@127.0.0.1 echo through; kill $p`},
			{name: "sftp", client: `printf "get $SHARED/tree/f3 $OWN/f3\nls -l $SHARED/tree/f1\n" | sftp -q -F /dev/null -S $DATA/ssh.sh -b - root@[$HOST] | grep -v sftp; md5sum <$OWN/f3`},
			{name: "rsync", client: `rsync -a --stats -e "sh $SHARED/ssh" root@[$HOST]:$SHARED/tree/ $OWN/tree/ | grep -E 'Number of (files|regular)|Literal'; md5sum <$OWN/tree/f3; rsync -ai -e "sh $SHARED/ssh" root@[$HOST]:$SHARED/tree/ $OWN/tree/`},
			{name: "refused-key", client: `ssh-keygen -q -t ed25519 -N '' -f $OWN/k; ssh -F /dev/null -i $OWN/k -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR root@$HOST true`},
			{name: "keyscan", client: `ssh-keyscan -t ed25519 $HOST 2>/dev/null | cut -d' ' -f2-`},
		},
	},
	{
		name:    "rsync-daemon",
		prepare: `mkdir $SHARED/tree; for i in 1 2 3; do seq 1 ${i}0000 >$SHARED/tree/f$i; done; touch -d 2020-01-01 $SHARED/tree/*; chmod -R 755 $SHARED/tree`,
		server:  `mkdir $OWN/up; printf 'use chroot = no\nuid = 0\ngid = 0\n[tree]\npath = %s\n[up]\npath = %s\nread only = no\n' $SHARED/tree $OWN/up >$OWN/conf; exec rsync --daemon --no-detach --config=$OWN/conf --log-file=/dev/stderr --port=873`,
		ports:   []uint16{873},
		cases: []testCase{
			{name: "modules", client: `rsync rsync://$URLHOST/`},
			{name: "download", client: `rsync -ai rsync://$URLHOST/tree/ $OWN/t/; md5sum <$OWN/t/f3`},
			{name: "upload", client: `rsync -ai $SHARED/tree/ rsync://$URLHOST/up/$$/ | grep -v -e cd++ -e created; rsync -r rsync://$URLHOST/up/$$/ | wc -l`},
			{name: "delta", client: `cp -r $SHARED/tree $OWN/t; echo more >>$OWN/t/f3; rm $OWN/t/f1; rsync -ai --stats --no-whole-file rsync://$URLHOST/tree/ $OWN/t/ | grep -E '^[>c]|Matched|Literal'; md5sum <$OWN/t/f3`},
			{name: "none", client: `rsync rsync://$URLHOST/none/`},
		},
	},
	{
		name:    "ftp",
		prepare: `mkdir -m 777 $SHARED/pub $SHARED/pub/up; seq 1 100000 >$SHARED/pub/f; touch -d 2020-01-01 $SHARED/pub/f; chmod 755 $SHARED/pub; chmod 644 $SHARED/pub/f`,
		server: `cat >$OWN/conf <<EOF
listen=NO
listen_ipv6=YES
anonymous_enable=YES
anon_root=$SHARED/pub
no_anon_password=YES
background=NO
seccomp_sandbox=NO
write_enable=YES
anon_upload_enable=YES
anon_umask=022
anon_other_write_enable=YES
pasv_min_port=40000
pasv_max_port=40100
secure_chroot_dir=/var/empty
ftp_username=nobody
connect_from_port_20=NO
EOF
mkdir -p /var/empty; exec vsftpd $OWN/conf`,
		ports: []uint16{21},
		cases: []testCase{
			{name: "curl-passive", client: `curl -sS ftp://$URLHOST/f | md5sum; curl -sS ftp://$URLHOST/`},
			{name: "curl-pasv-address", v4only: true, client: `curl -sS --disable-epsv --no-ftp-skip-pasv-ip ftp://$URLHOST/f | md5sum`},
			{name: "curl-active", client: `curl -sS -P - ftp://$URLHOST/f | md5sum`},
			{name: "lftp", client: `lftp -c "set net:max-retries 1; set net:timeout 5; open ftp://$URLHOST; cls -l; get f -o $OWN/f"; md5sum <$OWN/f`},
			{name: "lftp-active", client: `lftp -c "set net:max-retries 1; set net:timeout 5; set ftp:passive-mode off; open ftp://$URLHOST; get f -o $OWN/f"; md5sum <$OWN/f`},
			{name: "upload", client: `seq 1 300000 >$OWN/in; curl -sS -T $OWN/in ftp://$URLHOST/up/$$; curl -sS ftp://$URLHOST/up/$$ | cmp - $OWN/in; curl -sS -Q "DELE up/$$" -o /dev/null ftp://$URLHOST/f`},
			{name: "upload-active", client: `seq 1 300000 >$OWN/in; curl -sS -P - -T $OWN/in ftp://$URLHOST/up/$$; curl -sS ftp://$URLHOST/up/$$ | cmp - $OWN/in; curl -sS -Q "DELE up/$$" -o /dev/null ftp://$URLHOST/f`},
			{name: "none", client: `curl -sS ftp://$URLHOST/none`},
		},
	},
}
