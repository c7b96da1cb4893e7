// Command collector is the OpenTelemetry collector with the official OTLP receiver, and
// with an exporter that writes what arrives to the standard output: a line of OTLP/JSON for
// each batch. It listens at 127.0.0.1:4317 (gRPC) and :4318 (HTTP), or at the ports that
// its arguments name.
package main

import (
	"context"
	"fmt"
	"os"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry"
)

func main() {
	grpc, http := "127.0.0.1:4317", "127.0.0.1:4318"
	if len(os.Args) == 3 {
		grpc, http = os.Args[1], os.Args[2]
	}
	config := fmt.Sprintf(`yaml:
receivers: {otlp: {protocols: {grpc: {endpoint: "%s"}, http: {endpoint: "%s"}}}}
exporters: {lines: {}}
service:
  telemetry: {}
  pipelines:
    traces: {receivers: [otlp], exporters: [lines]}
    logs: {receivers: [otlp], exporters: [lines]}
`, grpc, http)
	collector, err := otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "collector", Description: "OTLP to lines of JSON", Version: "test"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs: []string{config}, ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
		}},
	})
	if err == nil {
		err = collector.Run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "collector:", err)
		os.Exit(1)
	}
}

func factories() (f otelcol.Factories, err error) {
	f.Telemetry = telemetry.NewFactory(func() component.Config { return &struct{}{} }) // none of its own
	if f.Receivers, err = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory()); err != nil {
		return f, err
	}
	lines := component.MustNewType("lines")
	f.Exporters, err = otelcol.MakeFactoryMap(exporter.NewFactory(lines, func() component.Config { return &struct{}{} },
		exporter.WithTraces(newTraces, component.StabilityLevelStable),
		exporter.WithLogs(newLogs, component.StabilityLevelStable)))
	return f, err
}

// printer writes lines, one at a time.
type printer struct {
	component.StartFunc
	component.ShutdownFunc
}

var stdout sync.Mutex

func print(line []byte, err error) error {
	if err != nil {
		return err
	}
	stdout.Lock()
	defer stdout.Unlock()
	_, err = os.Stdout.Write(append(line, '\n'))
	return err
}

func (printer) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (printer) ConsumeTraces(_ context.Context, t ptrace.Traces) error {
	return print((&ptrace.JSONMarshaler{}).MarshalTraces(t))
}

func (printer) ConsumeLogs(_ context.Context, l plog.Logs) error {
	return print((&plog.JSONMarshaler{}).MarshalLogs(l))
}

func newTraces(context.Context, exporter.Settings, component.Config) (exporter.Traces, error) {
	return printer{}, nil
}

func newLogs(context.Context, exporter.Settings, component.Config) (exporter.Logs, error) {
	return printer{}, nil
}
