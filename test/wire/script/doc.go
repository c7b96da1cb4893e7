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
//	flood BYTES         write in the background, and note nothing of it
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
//	second              a server's: listen at a second port, too
//	repeat N { … }      the steps N times
//	loop { … }          the steps for as long as something comes; the end of the
//	                    stream between two rounds is not noted
//
// Steps of the client. The first connection is made without a word:
//
//	dial NAME [own] [second]  make another connection and use it: from a port that
//	                    is this script's alone, to the server's second port
//	use NAME            go on with an earlier one; the first is "first"
//
// Steps of HTTP/2, of both ends unless it is said; k=v are fields (_ is a space),
// end is END_STREAM. Windows of what is read are opened at once.
//
//	h2 [streams=N] [window=N]         preface and settings, and reading from then on
//	open NAME METHOD PATH [end] k=v…  a client's: HEADERS, when there is room
//	accept NAME                       a server's: the next stream
//	answer NAME STATUS [end] k=v…     a server's: HEADERS
//	data NAME STRING… [end]           DATA, as the windows allow
//	pour NAME N                       N bytes of DATA in the background
//	trailers NAME k=v…                HEADERS with the end
//	empties NAME N                    N empty DATA frames
//	head NAME                         wait for the head of the answer
//	got NAME N                        wait for N bytes of the body
//	body NAME                         wait for the end of the stream
//	stall NAME                        do not open the stream's window any more
//	rst NAME CODE                     RST_STREAM
//	goaway [CODE] [last=NAME]         GOAWAY
//	ended                             wait for the end of the connection
//	many N METHOD PATH [reset=TIME]   a client's: N requests, as many at a time as
//	                                  there is room for; reset if not answered in time
//	serve [delay=TIME]                a server's: answer all streams; those to /hang
//	                                  are not even read, those to /big get 10 MiB
//
// The script of a server begins anew for each connection; several, separated by
// a line "--", are for the first, the second and so on, in the order in which
// connections bring their first byte. The last is for all others.
//
// Every step that reads has a limit. A step that fails is noted, and the script
// ends there. At its end connections stay open until the other end is through.
package script
