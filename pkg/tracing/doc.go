// Package tracing reads and writes the trace context of requests, and decides which
// requests are traced. It knows two formats: that of the W3C (traceparent and tracestate,
// https://www.w3.org/TR/trace-context/) and B3 with one header or several
// (https://github.com/openzipkin/b3-propagation). Package pkg/tracing/otlp makes spans and
// sends them.
//
// Headers come from outside. A header that does not follow its format is not a context: no
// part of it is used. Nothing of a header is stored but identifiers of fixed size and a
// tracestate of at most MaxState bytes.
package tracing
