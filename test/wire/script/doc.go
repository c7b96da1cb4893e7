// Package script is a small language for one end of a TCP connection: what it
// writes, reads and waits for, and how it ends. A player runs it and notes what
// that end sees. A test gives one script to the client and one to the server,
// plays both without a mesh and with it, and compares the notes.
//
// A script is a list of steps, separated by semicolons or newlines:
//
//	send $get; recv head; tell got-head; recv "half"; end
//
// Strings are quoted as in Go. "x"*300 repeats a string, #300 stands for 300
// bytes of a pattern, and $name for a constant (constants.go).
//
// Steps of both ends:
//
//	send STRING…        write all at once
//	drip STRING [PAUSE] write byte by byte
//	fill BYTES          write until that is done or nothing goes for 300 ms
//	urgent STRING       write with MSG_OOB
//	recv N              read N bytes
//	recv "text"         read up to and with that text
//	recv head           read up to and with an empty line
//	recv oob            read the urgent byte
//	end                 read to the end of the stream: fin, reset or time-out
//	quiet DURATION      nothing may come for that long
//	pause DURATION      do nothing, do not read either
//	shut                end the own direction (FIN)
//	close               close; with unread bytes the kernel makes that a reset
//	reset               close with a reset (SO_LINGER 0)
//	tell NAME           set a mark for both ends
//	await NAME          wait for a mark
//	oobinline           leave urgent bytes in the stream
//	nagle               clear TCP_NODELAY
//	rcvbuf N, sndbuf N  sizes of the socket's buffers; hold for the whole script
//	repeat N { … }      the steps N times
//	loop { … }          the steps for as long as something comes; the end of the
//	                    stream between two rounds is not noted
//
// Steps of the client. The first connection is made without a word:
//
//	dial NAME [PORT]    make another connection, from that port, and use it
//	use NAME            go on with an earlier one; the first is "first"
//
// The script of a server begins anew for each connection; several, separated by
// a line "--", are for the first, the second and so on, in the order in which
// connections bring their first byte. The last is for all others.
//
// Every step that reads has a limit. A step that fails is noted, and the script
// ends there. At its end connections stay open until the other end is through.
package script
