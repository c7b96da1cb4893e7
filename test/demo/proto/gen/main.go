// Command gen writes emojivote.proto from the catalog to the named file.
package main

import (
	_ "embed"
	"fmt"
	"os"
	"strings"
	"text/template"

	"github.com/underlane/underlane/test/demo/catalog"
)

//go:embed emojivote.proto.tmpl
var source string

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one argument, the file to write; got %q", args)
	}
	tmpl, err := template.New("proto").Parse(source)
	if err != nil {
		return fmt.Errorf("parse the template: %w", err)
	}
	var out strings.Builder
	if err := tmpl.Execute(&out, catalog.All); err != nil {
		return fmt.Errorf("fill the template: %w", err)
	}
	if err := os.WriteFile(args[0], []byte(out.String()), 0o644); err != nil {
		return fmt.Errorf("write the proto: %w", err)
	}
	return nil
}
