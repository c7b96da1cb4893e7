// Package plan is what the host and a guest of test/kernels say to each other: the guest
// reads a Plan from a file, and writes Messages to its console, each a line that begins
// with Mark.
package plan

import "encoding/json"

// Path is where the guest finds its Plan.
const Path = "/plan.json"

// Mark begins the lines of a console that are Messages. The kernel writes there as well.
const Mark = "@underlane "

// Plan is what a guest does.
type Plan struct {
	Modules []string `json:"modules"` // files, in the order in which the kernel takes them
	Steps   []Step   `json:"steps"`
}

// Step is a program that a guest runs.
type Step struct {
	Name    string   `json:"name"`
	Args    []string `json:"args"`
	Env     []string `json:"env"`
	Seconds int      `json:"seconds"` // after which it is killed
	Say     bool     `json:"say"`     // its output is wanted also if it succeeds
	Some    bool     `json:"some"`    // an expression chooses tests, of which it may have none
}

// Message is one of a guest: that it has booted, that a test has ended, or that a step has.
type Message struct {
	Kernel string  `json:"kernel,omitempty"` // its release: it has booted
	Test   string  `json:"test,omitempty"`   // a line of `go test -v` that says how a test ended
	Result *Result `json:"result,omitempty"`
	Error  string  `json:"error,omitempty"` // of the guest itself
	Done   bool    `json:"done,omitempty"`  // all steps have ended
}

// Result is how a step ended.
type Result struct {
	Step    string   `json:"step"`
	Code    int      `json:"code"` // exit status; -1: killed
	Passed  int      `json:"passed"`
	Failed  []string `json:"failed,omitempty"`
	Skipped []Skip   `json:"skipped,omitempty"`
	Seconds float64  `json:"seconds"`
	Output  string   `json:"output,omitempty"` // of tests that failed; all of it, if the step says so
}

// Skip is a test that was skipped.
type Skip struct {
	Test   string `json:"test"`
	Reason string `json:"reason"` // the last line that it printed
}

// Line returns m as a line for the console.
func (m Message) Line() []byte {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings and numbers
	}
	return append(append([]byte(Mark), text...), '\n')
}
