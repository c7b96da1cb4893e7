package script

import "time"

// Order is what a player is told, a line of JSON each. One with a Role begins a
// job. Of the others: Tell sets a mark, Finish ends the job when its scripts are
// through.
type Order struct {
	Job    int
	Role   string        // "client", "server"
	Addr   string        // of a client: where to
	Port   int           // of a server
	Script string        //
	Limit  time.Duration // of every step that reads

	Tell   string
	Finish bool
}

// Event is what a player says of a job, a line of JSON each.
type Event struct {
	Job       int
	Listening bool   // a server's
	Tell      string // a mark for the other end
	Through   bool   // a client is through with its script
	Done      bool   // the job is over, and Notes are all
	Notes     []Note
	Error     string // the job could not be done
}

// Note is what an end saw.
type Note struct {
	Conn int    // of a server: the number of its connection, from 0
	Text string // what it saw
	At   time.Duration
	// Silent is of a server's connection that ended without a byte: a proxy may
	// have made it ahead of need.
	Silent bool
}
