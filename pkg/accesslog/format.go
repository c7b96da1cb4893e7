package accesslog

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// maxValue is the largest part of a line that comes from a client, in bytes, before it is
// escaped. Longer ones are cut.
const maxValue = 2 << 10

func format(e *tap.Event, pod *mesh.Workload) string {
	if pod.Settings.AccessLog == mesh.AccessLogJSON {
		return string(appendJSON(nil, e, pod))
	}
	return string(appendApache(nil, e, pod))
}

// appendApache appends the pod, as Apache's vhost_combined begins with the host, and then
// the combined format:
//
//	%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"
//
// The user is the client's identity.
func appendApache(b []byte, e *tap.Event, pod *mesh.Workload) []byte {
	b = append(b, pod.Namespace...)
	b = append(b, '/')
	b = append(b, pod.Name...)
	b = append(b, ' ')
	b = append(b, orDash(address(e))...)
	b = append(b, " - "...)
	b = append(b, orDash(e.Source.Identity.String())...)
	b = append(b, " ["...)
	b = e.Time.Add(-e.Duration).AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	b = appendEscaped(b, e.Method)
	b = append(b, ' ')
	b = appendEscaped(b, e.Path)
	b = append(b, " HTTP/"...)
	b = append(b, version(e)...)
	b = append(b, `" `...)
	b = strconv.AppendInt(b, int64(e.Status), 10)
	b = append(b, ' ')
	if e.WriteBytes == 0 {
		b = append(b, '-')
	} else {
		b = strconv.AppendUint(b, e.WriteBytes, 10)
	}
	for _, s := range []string{e.Head.Referer, e.Head.UserAgent} {
		b = append(b, ` "`...)
		b = appendEscaped(b, orDash(s))
		b = append(b, '"')
	}
	return b
}

// version is that of HTTP/2 in the form in which Apache writes it.
func version(e *tap.Event) string {
	if e.Head.Version == "2" {
		return "2.0"
	}
	return e.Head.Version
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func address(e *tap.Event) string {
	if !e.Source.Addr.IsValid() {
		return ""
	}
	return e.Source.Addr.Addr().Unmap().String()
}

const hexDigits = "0123456789abcdef"

// appendEscaped appends s as Apache escapes it (ap_escape_logitem): quotes and backslashes
// with a backslash, and all bytes that are no printable ASCII as \xhh.
func appendEscaped(b []byte, s string) []byte {
	for i := range min(len(s), maxValue) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c > '~':
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

// appendJSON appends an object with the names that Linkerd's access log has, and with what
// only this mesh knows.
func appendJSON(b []byte, e *tap.Event, pod *mesh.Workload) []byte {
	o := object{append(b, '{')}
	o.text("timestamp", e.Time.Add(-e.Duration).UTC().Format(time.RFC3339Nano))
	o.text("namespace", pod.Namespace)
	o.text("pod", pod.Name)
	if e.Source.Addr.IsValid() {
		o.text("client.addr", e.Source.Addr.String())
	}
	o.text("client.id", e.Source.Identity.String())
	o.text("method", e.Method)
	o.text("host", e.Authority)
	o.text("uri", e.Path)
	o.text("version", "HTTP/"+version(e))
	o.number("status", int64(e.Status))
	if e.GRPC {
		o.number("grpc_status", int64(e.GRPCStatus))
	}
	o.number("request_bytes", int64(e.ReadBytes))
	o.number("response_bytes", int64(e.WriteBytes))
	o.number("processing_ns", int64(e.Split.Queue))
	o.number("total_ns", int64(e.Duration))
	o.text("user_agent", e.Head.UserAgent)
	o.text("referer", e.Head.Referer)
	if e.Reason != mesh.ReasonNone {
		o.text("reason", e.Reason.String())
	}
	if e.Trace != nil {
		o.text("trace_id", e.Trace.ID.String())
		o.text("span_id", e.Trace.Span.String())
	}
	return append(o.b, '}')
}

// object is a JSON object that is being written.
type object struct{ b []byte }

// text appends a member, unless value is "".
func (o *object) text(name, value string) {
	if value == "" {
		return
	}
	o.name(name)
	o.b = append(o.b, '"')
	o.b = appendJSONText(o.b, value)
	o.b = append(o.b, '"')
}

func (o *object) number(name string, value int64) {
	o.name(name)
	o.b = strconv.AppendInt(o.b, value, 10)
}

func (o *object) name(name string) {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(o.b, '"')
	o.b = append(o.b, name...)
	o.b = append(o.b, `":`...)
}

// appendJSONText appends s as the content of a string. It escapes more than JSON needs: all
// that is not printable, such as the control characters U+0080 to U+009F, which terminals
// obey, and those that change the direction of text.
func appendJSONText(b []byte, s string) []byte {
	s = strings.ToValidUTF8(s[:min(len(s), maxValue)], "\uFFFD")
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case unicode.IsPrint(r):
			b = utf8.AppendRune(b, r)
		case r <= 0xffff:
			b = appendUnit(b, r)
		default: // as a surrogate pair
			r -= 0x10000
			b = appendUnit(b, 0xd800+r>>10)
			b = appendUnit(b, 0xdc00+r&0x3ff)
		}
	}
	return b
}

func appendUnit(b []byte, r rune) []byte {
	return append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}
