// Package docstest holds the documentation to the code: what is in the code is
// in the reference, what a page links to exists, and what it tells people to
// type does too.
package docstest
