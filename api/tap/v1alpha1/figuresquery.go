package tapv1alpha1

import (
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// Values of FiguresQuery.By.
const (
	ByNamespace = "namespace"
	ByWorkload  = "workload"
	ByPod       = "pod"
)

// Values of FiguresQuery.Side.
const (
	SideSource      = "source"
	SideDestination = "destination"
)

// Limits of FiguresQuery.
const (
	DefaultWindow = time.Minute
	MaxWindow     = 24 * time.Hour
	MinStep       = 10 * time.Second
	// MaxPoints bounds Window/Step.
	MaxPoints = 1440
)

// FiguresQuery are the parameters of …/figures. Resources are TYPE/NAME or TYPE.
type FiguresQuery struct {
	By string // ByWorkload, ByPod, ByNamespace
	// Namespace, Kind and Name say what either end is, or the service; "": anything. For a
	// path with a namespace it is that one.
	Namespace, Kind, Name string
	To, ToNamespace       string
	From, FromNamespace   string
	Protocol              string
	// Side is the side whose report of a call counts where two agents report it.
	Side    string
	Window  time.Duration
	End     time.Time     // zero: now
	Step    time.Duration // of points; 0: no points
	Buckets bool          // latencies with their buckets
	// Selector marks the resources with pods of these labels as selected, in Kubernetes'
	// syntax; "": none. It leaves nothing out.
	Selector string
}

// text returns the parameters that are text, by name.
func (q *FiguresQuery) text() map[string]*string {
	return map[string]*string{
		"by": &q.By, "namespace": &q.Namespace, "kind": &q.Kind, "name": &q.Name,
		"to": &q.To, "to-namespace": &q.ToNamespace, "from": &q.From, "from-namespace": &q.FromNamespace,
		"protocol": &q.Protocol, "side": &q.Side,
		// Kubernetes' own name, and its syntax.
		"labelSelector": &q.Selector,
	}
}

// Values writes q as parameters.
func (q FiguresQuery) Values() url.Values {
	v := url.Values{}
	for name, field := range q.text() {
		if *field != "" {
			v.Set(name, *field)
		}
	}
	if q.Window != 0 {
		v.Set("window", q.Window.String())
	}
	if !q.End.IsZero() {
		v.Set("end", q.End.UTC().Format(time.RFC3339Nano))
	}
	if q.Step != 0 {
		v.Set("step", strconv.Itoa(int(q.Step/time.Second)))
	}
	if q.Buckets {
		v.Set("buckets", "true")
	}
	return v
}

// ParseFigures reads what Values writes, and sets what is absent to its default. Unknown
// parameters are refused: a filter with a typing error in it would show too much.
func ParseFigures(values url.Values) (q FiguresQuery, err error) {
	text := q.text()
	for name, all := range values {
		value := all[len(all)-1]
		field, isText := text[name]
		switch {
		case isText:
			*field = value
		case name == "window":
			q.Window, err = time.ParseDuration(value)
		case name == "end":
			q.End, err = time.Parse(time.RFC3339Nano, value)
		case name == "step":
			var seconds int
			if seconds, err = strconv.Atoi(value); err == nil && (seconds < 0 || seconds > int(MaxWindow/time.Second)) {
				err = fmt.Errorf("want at most %v", MaxWindow)
			}
			q.Step = time.Duration(seconds) * time.Second
		case name == "buckets":
			q.Buckets, err = strconv.ParseBool(value)
		case name == "timeout", name == "timeoutSeconds", name == "pretty":
		default:
			err = fmt.Errorf("there is no such parameter")
		}
		if err != nil {
			return q, fmt.Errorf("parameter %s=%s: %w", name, value, err)
		}
	}
	return q, q.complete()
}

// complete sets defaults, and checks what is not text.
func (q *FiguresQuery) complete() error {
	for _, field := range []struct {
		name     string
		value    *string
		allowed  []string
		standard string
	}{
		{"by", &q.By, []string{ByNamespace, ByWorkload, ByPod}, ByWorkload},
		{"side", &q.Side, []string{SideSource, SideDestination}, SideSource},
	} {
		if *field.value == "" {
			*field.value = field.standard
		}
		ok := false
		for _, v := range field.allowed {
			ok = ok || v == *field.value
		}
		if !ok {
			return fmt.Errorf("parameter %s=%s: want one of %v", field.name, *field.value, field.allowed)
		}
	}
	if q.Window == 0 {
		q.Window = DefaultWindow
	}
	switch {
	case q.Window < MinStep || q.Window > MaxWindow:
		return fmt.Errorf("parameter window=%v: want %v to %v", q.Window, MinStep, MaxWindow)
	case q.Step != 0 && (q.Step < MinStep || q.Step%MinStep != 0):
		return fmt.Errorf("parameter step=%d: want a multiple of %d seconds", int(q.Step/time.Second), int(MinStep/time.Second))
	case q.Step != 0 && q.Window/q.Step > MaxPoints:
		return fmt.Errorf("parameter step=%d: a window of %v has more than %d of them", int(q.Step/time.Second), q.Window, MaxPoints)
	case q.Name != "" && q.Kind == "":
		return fmt.Errorf("parameter name=%s: give kind, too", q.Name)
	}
	return nil
}
