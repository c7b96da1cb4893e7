package wire

// loginRows authenticate a connection rather than a request (NTLM, Negotiate; RFC 4559 §6): what
// another connection of the same client sends must not reach the server on the same one.
var loginRows = []row{
	{
		"login/ntlm", `send $get; recv "go"; send $ntlm-1; recv "go"; send $ntlm-3; recv "ok"; dial b; send $get-b; recv "stranger"; use first; send $get; recv "alice"`,
		"recv head; send $asks-ntlm; recv head; send $challenge; recv head; send $ok; recv head; send $alice\n--\nloop { recv head; send $stranger }",
		options{},
	},
	{
		"login/negotiate-at-once", `send $negotiate; recv "ok"; dial b; send $get-b; recv "stranger"; use first; send $get; recv "alice"`,
		"recv head; send $ok; recv head; send $alice\n--\nloop { recv head; send $stranger }",
		options{},
	},
	{
		"login/proxy", `send $proxy-ntlm-1; recv "go"; send $proxy-ntlm-3; recv "ok"; dial b; send $get-b; recv "stranger"; use first; send $get; recv "alice"`,
		"recv head; send $proxy-challenge; recv head; send $ok; recv head; send $alice\n--\nloop { recv head; send $stranger }",
		options{},
	},
	{
		"login/client-leaves", `send $negotiate; recv "ok"; close; dial b; send $get-b; recv "stranger"`,
		"recv head; send $ok; end\n--\nloop { recv head; send $stranger }",
		options{},
	},
	{
		"login/post", `send $negotiate-post "hello"; recv "ok"; dial b; send $post-5 "hello"; recv "stranger"; use first; send $get; recv "alice"`,
		"recv \"hello\"; send $ok; recv head; send $alice\n--\nloop { recv \"hello\"; send $stranger }",
		options{},
	},
	{
		"login/lower-case", `send $ntlm-lower; recv "ok"; dial b; send $get-b; recv "stranger"; use first; send $get; recv "alice"`,
		"recv head; send $ok; recv head; send $alice\n--\nloop { recv head; send $stranger }",
		options{},
	},
}
