// Command dashboards writes the Grafana dashboards of the chart to
// chart/underlane/dashboards. Run by go generate in daemonset.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

const directory = "chart/underlane/dashboards"

// boards are all dashboards, in the order of docs/grafana.md.
func boards() []board {
	return []board{
		topLine(), namespace(), workload(), pod(), service(), route(), connections(), agents(), controlPlane(),
	}
}

func main() {
	if err := write(directory, boards()); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

// write writes each dashboard to a file of its own, and removes the files of those that
// are there no more.
func write(dir string, all []board) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, b := range all {
		text, err := encode(b.dashboard())
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, b.name+".json"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// encode returns v as JSON. PromQL has < and >, which stay readable.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(v)
	return out.Bytes(), err
}
