// Package archtest holds the rules of the code base as tests: who may import
// whom, how long files are, and what every package owes its readers. A rule
// that bends has its exception in a table here, with the reason beside it; an
// exception that nobody needs any more fails, too.
package archtest
