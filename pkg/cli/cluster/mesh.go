package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/pkg/cli/cluster/manifest"
	"github.com/underlane/underlane/pkg/mesh"
)

// MeshCommand is `underlane mesh`, which adds the label. It replaces Linkerd's
// inject.
func MeshCommand() *cobra.Command {
	annotations := map[string]*string{}
	cmd := &cobra.Command{
		Use:   "mesh FILE|DIRECTORY|URL|-...",
		Short: "Add the label that takes pods into the mesh to manifests",
		Long: `Add the label underlane.io/mesh=enabled to pod templates, pods and namespaces of
manifests. The result is printed, what was done is told on standard error, and
everything else stays as it is, comments included.

To a workload that runs, a changed template means new pods. To take running pods
in without a restart, label the pods or their namespace with kubectl.`,
		Example: `  kubectl get deploy -o yaml | underlane mesh - | kubectl apply -f -
  underlane mesh --policy strict deployment.yaml > meshed.yaml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			change := manifest.Change{Labels: map[string]string{mesh.LabelMesh: mesh.LabelEnabled}, Annotations: map[string]string{}}
			for name, value := range annotations {
				if *value != "" {
					change.Annotations[name] = *value
				}
			}
			return transform(cmd, &change, "meshed", args)
		},
	}
	annotation := func(flag, name, usage string) {
		annotations[name] = cmd.Flags().String(flag, "", usage)
	}
	annotation("opaque-ports", mesh.AnnotationOpaquePorts, "ports whose bytes are carried without being looked into: 25,9000-9100")
	annotation("skip-outbound-ports", mesh.AnnotationSkipOutboundPorts, "ports to which connections are left alone")
	annotation("skip-inbound-ports", mesh.AnnotationSkipInboundPorts, "ports of the pod that are left alone; no policy applies to them")
	annotation("policy", mesh.AnnotationPolicy, "allow, strict or a mode, such as audit or deny: who may connect")
	annotation("fail-mode", mesh.AnnotationFailMode, "open or closed: new connections while the node's agent is away")
	return cmd
}

// UnmeshCommand is `underlane unmesh`, which removes the label.
func UnmeshCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "unmesh FILE|DIRECTORY|URL|-...",
		Short:   "Take the label off again",
		Example: `  kubectl get deploy -o yaml | underlane unmesh - | kubectl apply -f -`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return transform(cmd, &manifest.Change{Remove: []string{mesh.LabelMesh}}, "unmeshed", args)
		},
	}
}

// transform edits all sources and writes them as one stream. It writes nothing when
// a source cannot be read, so that the user does not apply an incomplete stream.
func transform(cmd *cobra.Command, change *manifest.Change, done string, sources []string) error {
	var out bytes.Buffer
	var reports []manifest.Report
	for _, source := range sources {
		texts, err := readSource(source, cmd.InOrStdin())
		if err != nil {
			return err
		}
		for _, t := range texts {
			changed, more, err := change.Apply(t.text)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			if out.Len() > 0 {
				join(&out, changed)
			}
			out.Write(changed)
			reports = append(reports, more...)
		}
	}
	if _, err := out.WriteTo(cmd.OutOrStdout()); err != nil {
		return err
	}
	printReports(cmd.ErrOrStderr(), reports, done)
	return nil
}

// join prepares out for the next source: it ends the last line, and adds a
// separator unless next starts with one.
func join(out *bytes.Buffer, next []byte) {
	if !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
		out.WriteByte('\n')
	}
	if !bytes.HasPrefix(next, []byte("---")) {
		out.WriteString("---\n")
	}
}

// printReports writes a line for each object, like `linkerd inject`.
func printReports(w io.Writer, reports []manifest.Report, done string) {
	fmt.Fprintln(w)
	for _, r := range reports {
		name := fmt.Sprintf("%s %q", strings.ToLower(r.Kind), r.Name)
		if r.Kind == "" {
			name = fmt.Sprintf("document %q", r.Name)
		}
		switch {
		case r.Outcome == manifest.Changed:
			fmt.Fprintf(w, "%s %s\n", name, done)
		case r.Outcome == manifest.Unchanged:
			fmt.Fprintf(w, "%s skipped: nothing to change\n", name)
		case r.Reason != "":
			fmt.Fprintf(w, "%s skipped: %s\n", name, r.Reason)
		default:
			fmt.Fprintf(w, "%s skipped\n", name)
		}
	}
	fmt.Fprintln(w)
}

type source struct {
	name string
	text []byte
}

const (
	fetchTimeout = 30 * time.Second
	maxFetched   = 64 << 20
)

func readSource(name string, stdin io.Reader) ([]source, error) {
	switch {
	case name == "-":
		text, err := io.ReadAll(stdin)
		return []source{{"standard input", text}}, err
	case strings.HasPrefix(name, "http://"), strings.HasPrefix(name, "https://"):
		text, err := fetch(name)
		return []source{{name, text}}, err
	}
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		text, err := os.ReadFile(name)
		return []source{{name, text}}, err
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	var out []source
	for _, e := range entries {
		if e.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			continue
		}
		path := filepath.Join(name, e.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		out = append(out, source{path, text})
	}
	if out == nil {
		return nil, errors.New(name + ": no manifest (*.yaml, *.yml, *.json) in this directory")
	}
	return out, nil
}

func fetch(url string) ([]byte, error) {
	client := http.Client{Timeout: fetchTimeout}
	resp, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxFetched))
}
