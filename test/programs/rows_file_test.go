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
}
