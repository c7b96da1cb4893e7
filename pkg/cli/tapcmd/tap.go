package tapcmd

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/render"
	"github.com/underlane/underlane/pkg/tap/wire"
)

// Tap is the command tap: a line for each event.
func Tap(s *Source) *cobra.Command {
	var filter filterFlags
	var output string
	var connections, observe bool
	short := fmt.Sprintf("Show requests and connections of %s as they happen", s.Scope)
	cmd := &cobra.Command{
		Use:     "tap " + s.argument(),
		Short:   short,
		Long:    short + ".\n\n" + s.resourceHelp(),
		Example: s.examples("tap deploy/web", "tap ns/shop --to deploy/db --method POST --path /api", "tap pod/web-5d4f -o json --max-rps 0"),
		Args:    cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			format, err := s.lineFormat(output)
			if err != nil {
				return err
			}
			request, err := s.request(&filter, args, agentv1.TapRequest_TARGET)
			if err != nil {
				return err
			}
			request.Observe = observe
			request.Legs, request.Headers = connections, output == "json" || strings.HasPrefix(output, jsonPathOutput)
			stream, done, err := s.Open(cmd.Context(), request)
			if err != nil {
				return err
			}
			defer done()
			return s.ended(cmd.Context(), writeEvents(stream.Recv, format, cmd.OutOrStdout(), cmd.ErrOrStderr()))
		},
	}
	filter.add(cmd, s, 100)
	cmd.Flags().StringVarP(&output, "output", "o", "", strings.Join(s.formats(), ", "))
	cmd.Flags().BoolVar(&connections, "connections", false, "also show the connections that requests pass, of clients and to servers")
	if s.Observes {
		cmd.Flags().BoolVar(&observe, "observe", false, "observe pods of RESOURCE that are not in the mesh and have no label, until the command ends")
	}
	cli.Complete(cmd, s.Names, false)
	return cmd
}

func (s *Source) examples(lines ...string) string {
	return "  " + s.Program + " " + strings.Join(lines, "\n  "+s.Program+" ")
}

func (s *Source) argument() string {
	if s.NeedsTarget {
		return "RESOURCE"
	}
	return "[RESOURCE]"
}

// format appends an event and a line end.
type format func(dst []byte, e *tap.Event) ([]byte, error)

const jsonPathOutput = "jsonpath="

func (s *Source) formats() []string {
	formats := []string{"wide", "json"}
	if s.JSONPath != nil {
		formats = append(formats, jsonPathOutput+"EXPRESSION")
	}
	return formats
}

func (s *Source) lineFormat(output string) (format, error) {
	if expression, ok := strings.CutPrefix(output, jsonPathOutput); ok && s.JSONPath != nil {
		find, err := s.JSONPath(expression)
		if err != nil {
			return nil, err
		}
		return parts(find), nil
	}
	switch output {
	case "", "wide":
		return func(dst []byte, e *tap.Event) ([]byte, error) {
			return append(render.Line(dst, e, output == "wide"), '\n'), nil
		}, nil
	case "json":
		return func(dst []byte, e *tap.Event) ([]byte, error) {
			data, err := render.JSON(e)
			return append(append(dst, data...), '\n'), err
		}, nil
	}
	return nil, fmt.Errorf("output format %q: use one of %s", output, strings.Join(s.formats(), ", "))
}

// parts writes what find finds in an event's JSON, each on a line. An event without it has none.
func parts(find func(any) ([]any, error)) format {
	return func(dst []byte, e *tap.Event) ([]byte, error) {
		data, err := render.JSON(e)
		if err != nil {
			return dst, err
		}
		var event any
		if err := json.Unmarshal(data, &event); err != nil {
			return dst, fmt.Errorf("read the event again: %w", err)
		}
		found, err := find(event)
		for _, part := range found {
			if data, err = json.Marshal(part); err != nil {
				return dst, err
			}
			dst = append(append(dst, data...), '\n')
		}
		return dst, err
	}
}

// writeEvents writes batches until recv fails. It writes warnings and losses to
// errw.
func writeEvents(recv func() (*agentv1.TapEvents, error), write format, out, errw io.Writer) error {
	w := bufio.NewWriter(out)
	var buf []byte
	for {
		batch, err := recv()
		if err != nil {
			return err
		}
		for _, m := range batch.GetEvents() {
			e := wire.FromProto(m)
			if buf, err = write(buf[:0], &e); err != nil {
				return err
			}
			if _, err := w.Write(buf); err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
		tell(errw, batch)
	}
}
