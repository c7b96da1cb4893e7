// Package codec converts between the messages of api/control/v1 and the values
// of pkg/mesh and pkg/state. It is pure: no connection, clock or log.
//
// Encoding cannot fail. Decoding checks that every value is in its range; what
// valid values mean is checked by their users.
package codec
