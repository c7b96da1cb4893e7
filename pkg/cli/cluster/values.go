package cluster

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"

	"github.com/spf13/pflag"

	"github.com/underlane/underlane/pkg/cli/cluster/certs"
	"github.com/underlane/underlane/pkg/cli/cluster/chart"
)

// InstallDefaults returns the values in which an installation by command differs
// from the chart's defaults: the command creates the namespace, which Helm would
// otherwise do.
func InstallDefaults() map[string]any {
	return map[string]any{"namespace": map[string]any{"create": true}}
}

// valueFlags are the flags that configure the installation, with Linkerd's names.
type valueFlags struct {
	files, set, setString            []string
	ha, external                     bool
	replicas                         int
	trustDomain, clusterDomain       string
	anchorsFile, issuerFile, keyFile string
}

func (v *valueFlags) add(f *pflag.FlagSet) {
	f.StringArrayVarP(&v.files, "values", "f", nil, "YAML file of values, - for standard input (repeatable; later ones win)")
	f.StringArrayVar(&v.set, "set", nil, "value of the chart: image.tag=v1 (repeatable; wins over files and the other flags)")
	f.StringArrayVar(&v.setString, "set-string", nil, "the same, always a string")
	f.BoolVar(&v.ha, "ha", false, "high availability: three controllers on three nodes")
	f.IntVar(&v.replicas, "controller-replicas", 0, "replicas of the controller")
	f.StringVar(&v.trustDomain, "identity-trust-domain", "", "trust domain of the mesh (default cluster.local)")
	f.StringVar(&v.clusterDomain, "cluster-domain", "", "DNS domain of the cluster (default cluster.local)")
	f.StringVar(&v.anchorsFile, "identity-trust-anchors-file", "", "PEM file of the roots to trust")
	f.StringVar(&v.issuerFile, "identity-issuer-certificate-file", "", "PEM file of the issuer's certificate, then its intermediates")
	f.StringVar(&v.keyFile, "identity-issuer-key-file", "", "PEM file of the issuer's private key")
	f.BoolVar(&v.external, "identity-external-issuer", false, "the Secret underlane-identity-issuer is made by others, such as cert-manager")
}

// values returns base with the values of the flags added: first files, then flags,
// then --set. Later values have precedence.
func (v *valueFlags) values(base map[string]any, stdin io.Reader) (map[string]any, error) {
	out := base
	if v.ha {
		text, err := chart.File(chart.HAFile)
		if err != nil {
			return nil, err
		}
		ha, err := chart.ParseValues(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", chart.HAFile, err)
		}
		out = chart.Merge(out, ha)
	}
	for _, name := range v.files {
		text, err := readFile(name, stdin)
		if err != nil {
			return nil, fmt.Errorf("--values: %w", err)
		}
		more, err := chart.ParseValues(text)
		if err != nil {
			return nil, fmt.Errorf("--values %s: %w", name, err)
		}
		out = chart.Merge(out, more)
	}
	flags, err := v.named()
	if err != nil {
		return nil, err
	}
	out = chart.Merge(out, flags)
	for _, s := range v.set {
		if err := chart.Set(out, s, false); err != nil {
			return nil, err
		}
	}
	for _, s := range v.setString {
		if err := chart.Set(out, s, true); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// named returns the values of the flags that stand for a single value.
func (v *valueFlags) named() (map[string]any, error) {
	out := map[string]any{}
	if v.replicas != 0 {
		out["controller"] = map[string]any{"replicas": v.replicas}
	}
	if v.trustDomain != "" {
		out["trustDomain"] = v.trustDomain
	}
	if v.clusterDomain != "" {
		out["clusterDomain"] = v.clusterDomain
	}
	issuer, err := v.issuer()
	if len(issuer) > 0 {
		out["identity"] = map[string]any{"issuer": issuer}
	}
	return out, err
}

func (v *valueFlags) issuer() (map[string]any, error) {
	files := map[string]string{"trustAnchorsPEM": v.anchorsFile, "certificatePEM": v.issuerFile, "keyPEM": v.keyFile}
	maps.DeleteFunc(files, func(_, name string) bool { return name == "" })
	switch {
	case v.external && len(files) > 0:
		return nil, errors.New("--identity-external-issuer: the Secret is made by others, so give none of the certificate files")
	case v.external:
		return map[string]any{"existing": true}, nil
	case len(files) == 0:
		return nil, nil
	case len(files) < 3:
		return nil, errors.New("--identity-trust-anchors-file, --identity-issuer-certificate-file and --identity-issuer-key-file belong together: give all three")
	}
	pem := map[string][]byte{}
	issuer := map[string]any{}
	for key, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("identity: %w", err)
		}
		pem[key], issuer[key] = text, string(text)
	}
	if err := certs.CheckIssuer(pem["trustAnchorsPEM"], pem["certificatePEM"], pem["keyPEM"]); err != nil {
		return nil, err
	}
	return issuer, nil
}

func readFile(name string, stdin io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(name)
}
