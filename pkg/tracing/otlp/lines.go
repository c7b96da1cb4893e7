package otlp

import (
	"slices"
	"time"

	logspb "go.opentelemetry.io/proto/otlp/logs/v1"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tracing"
)

// Line is a line of a pod's access log.
type Line struct {
	Time     time.Time
	Pod      *mesh.Workload
	Text     string // the line, without its end
	Method   string
	Path     string
	Protocol string         // http1, http2, grpc
	Status   int            // of HTTP
	Trace    *tracing.Trace // nil: the request is not sampled
}

func encodeLines(lines []Line, version string) *logspb.LogsData {
	var out logspb.LogsData
	scopes := map[*mesh.Workload]*logspb.ScopeLogs{}
	for i := range lines {
		l := &lines[i]
		records := scopes[l.Pod]
		if records == nil {
			records = &logspb.ScopeLogs{Scope: scope(version), SchemaUrl: schema}
			scopes[l.Pod] = records
			out.ResourceLogs = append(out.ResourceLogs, &logspb.ResourceLogs{
				Resource: resourceOf(l.Pod), ScopeLogs: []*logspb.ScopeLogs{records}, SchemaUrl: schema,
			})
		}
		var a attributes
		a.str("http.request.method", l.Method)
		path, _ := splitPath(l.Path)
		a.str("url.path", path)
		if l.Status != 0 {
			a.num("http.response.status_code", int64(l.Status))
		}
		r := &logspb.LogRecord{
			TimeUnixNano: nanos(l.Time), ObservedTimeUnixNano: nanos(l.Time),
			SeverityNumber: logspb.SeverityNumber_SEVERITY_NUMBER_INFO, SeverityText: "INFO",
			EventName: "underlane.access", Body: text(l.Text), Attributes: a,
		}
		if t := l.Trace; t != nil {
			r.TraceId, r.SpanId, r.Flags = slices.Clone(t.ID[:]), slices.Clone(t.Span[:]), uint32(t.Flags)
		}
		records.LogRecords = append(records.LogRecords, r)
	}
	return &out
}
