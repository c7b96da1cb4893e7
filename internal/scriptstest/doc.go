// Package scriptstest checks the scripts that make runs, with the programs that
// they call.
package scriptstest
