// Package archtest holds the rules of the code base as tests: who may import
// whom, how long files are, and what every package owes its readers. A rule
// with an exception has it in a table here, with the reason beside it. An exception
// that is not needed any more fails the tests, too.
package archtest
