// Package otlp sends spans and access logs to a receiver of the OpenTelemetry protocol
// (OTLP 1.x, https://opentelemetry.io/docs/specs/otlp/), over gRPC or over HTTP with
// protobuf.
//
// What is sent waits in a queue that is bounded in items and in bytes. A full queue drops
// the newest items and counts them, so that traffic never waits for the receiver. Batches
// are sent one after the other: a slow receiver slows nothing down but them.
//
// The messages are those of go.opentelemetry.io/proto/otlp, sent with the gRPC and the
// net/http that the agent has in any case. The exporters of the OpenTelemetry SDK would do
// the same with a few hundred packages more, and their spans begin and end while a request
// runs; the proxy has a complete event at its end.
package otlp
