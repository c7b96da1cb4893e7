package agent

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/accesslog"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/telemetry"
	"github.com/underlane/underlane/pkg/tracing/otlp"
)

// ObserveConfig configures tracing and access logs.
type ObserveConfig struct {
	OTLPEndpoint  string // receiver of spans (otlp.ParseEndpoint); "": nothing is traced
	OTLPCA        string // otlp.Options.CA
	TraceSampling string // of pods that have none of their own (mesh.ParseTraceSampling); "": parent
	AccessLogTo   string // toLog, the default, or toOTLP
}

// Values of ObserveConfig.AccessLogTo.
const (
	toLog  = "log"
	toOTLP = "otlp"
)

func (c *ObserveConfig) flags(f *pflag.FlagSet) {
	f.StringVar(&c.OTLPEndpoint, "otlp-endpoint", "", "receiver of traces: grpc://HOST:4317 or http://HOST:4318, grpcs:// or https:// with TLS; empty: nothing is traced")
	f.StringVar(&c.OTLPCA, "otlp-ca", "", "PEM file with the authority of the receiver's certificate; empty for the system's authorities")
	f.StringVar(&c.TraceSampling, "trace-sampling", mesh.TraceSampling{}.String(), "requests that are traced, of pods without an annotation: off, parent (those whose caller asks for it), or such a share as 5% of the others, too")
	f.StringVar(&c.AccessLogTo, "access-log-to", toLog, "where access logs of pods go: log (the standard output) or otlp")
}

// observing are the parts of an agent that show others the requests of its pods.
type observing struct {
	exporter *otlp.Exporter      // nil: there is no receiver
	sampling *mesh.TraceSampling // nil: nothing is traced
	log      *accesslog.Log
}

// newObserving makes the parts. They connect to nothing yet.
func (a *components) newObserving(c *ObserveConfig) (o observing, err error) {
	sampling, err := mesh.ParseTraceSampling(cmp.Or(c.TraceSampling, mesh.TraceSampling{}.String()))
	if err != nil {
		return o, fmt.Errorf("--trace-sampling: %w", err)
	}
	options := accesslog.Options{View: a.store.View, Out: os.Stdout}
	if c.OTLPEndpoint != "" {
		endpoint, err := otlp.ParseEndpoint(c.OTLPEndpoint)
		if err != nil {
			return o, fmt.Errorf("--otlp-endpoint: %w", err)
		}
		o.exporter, err = otlp.New(otlp.Options{Endpoint: endpoint, CA: c.OTLPCA, Version: version.Version, Log: a.log})
		if err != nil {
			return o, fmt.Errorf("--otlp-endpoint: %w", err)
		}
		o.sampling = &sampling
	}
	switch to := cmp.Or(c.AccessLogTo, toLog); {
	case to == toLog:
	case to != toOTLP:
		return o, fmt.Errorf("--access-log-to: %q is neither %s nor %s", c.AccessLogTo, toLog, toOTLP)
	case o.exporter == nil:
		return o, fmt.Errorf("--access-log-to=%s needs a receiver: --otlp-endpoint", toOTLP)
	default:
		options.Sink = func(r accesslog.Record) { o.exporter.Log(lineOf(&r)) }
	}
	o.log = accesslog.New(options)
	return o, nil
}

func lineOf(r *accesslog.Record) otlp.Line {
	e := r.Event
	return otlp.Line{
		Time: e.Time, Pod: r.Pod, Text: r.Line,
		Method: e.Method, Path: e.Path, Protocol: e.Protocol, Status: e.Status, Trace: e.Trace,
	}
}

// sinks returns the readers of tap events.
func (o *observing) sinks() []tap.Sink {
	if o.exporter == nil {
		return []tap.Sink{o.log}
	}
	return []tap.Sink{o.log, o.exporter}
}

// start starts the parts for as long as the agent carries traffic.
func (o *observing) start(life *parts) {
	life.start("access logs", func(ctx context.Context) error { o.log.Run(ctx); return nil })
	if o.exporter != nil {
		life.start("OTLP", func(ctx context.Context) error { o.exporter.Run(ctx); return nil })
	}
}

// counts returns what the metrics have of the parts.
func (o *observing) counts() telemetry.Exports {
	out := telemetry.Exports{AccessLogDropped: o.log.Dropped()}
	if o.exporter != nil {
		out.OTLP = map[string]map[string]uint64{}
		for signal, c := range o.exporter.Counts() {
			out.OTLP[signal] = map[string]uint64{"sent": c.Sent, "rate": c.Limited, "queue-full": c.Full, "failed": c.Failed, "rejected": c.Rejected}
		}
	}
	return out
}
