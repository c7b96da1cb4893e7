package pki

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/underlane/underlane/test/cluster/layout"
)

// Names of files in a cluster's pki directory, to which .crt or .key is added.
const (
	CA            = "ca"
	FrontProxyCA  = "front-proxy-ca"
	FrontProxy    = "front-proxy-client"
	APIServer     = "apiserver"
	KubeletClient = "apiserver-kubelet-client"
	Signing       = "service-accounts" // .key and .pub
)

// Write makes all credentials of a cluster's parts: dir/NAME.crt and dir/NAME.key, and
// dir/USER.kubeconfig for admin, controller-manager, scheduler, kube-proxy and each
// node.
func Write(dir string, nodes []layout.Node) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := NewAuthority("kubernetes-ca")
	if err != nil {
		return err
	}
	front, err := NewAuthority("front-proxy-ca")
	if err != nil {
		return err
	}
	w := writer{dir: dir}
	w.pair(CA, ca.Pair)
	w.pair(FrontProxyCA, front.Pair)
	w.issue(front, FrontProxy, Subject{User: FrontProxy})
	w.issue(ca, KubeletClient, Subject{User: "kube-apiserver-kubelet-client", Groups: []string{"system:masters"}})
	w.issue(ca, APIServer, Subject{
		User: "kube-apiserver",
		DNS:  []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		IPs:  addrs("127.0.0.1", layout.APIServiceIP, layout.ControlPlaneIP, layout.ControlPlaneIP6),
	})
	private, public, err := SigningKey()
	if err != nil {
		return err
	}
	w.file(Signing+".key", private)
	w.file(Signing+".pub", public)

	w.kubeconfig(ca, "admin", Subject{User: "admin", Groups: []string{"system:masters"}})
	w.kubeconfig(ca, "controller-manager", Subject{User: "system:kube-controller-manager"})
	w.kubeconfig(ca, "scheduler", Subject{User: "system:kube-scheduler"})
	w.kubeconfig(ca, "kube-proxy", Subject{User: "system:kube-proxy"})
	for _, n := range nodes {
		// The same certificate serves the kubelet's port and is its client certificate.
		w.kubeconfig(ca, n.Name(), Subject{
			User:   "system:node:" + n.Name(),
			Groups: []string{"system:nodes"},
			DNS:    []string{n.Name()},
			IPs:    []netip.Addr{n.IP(), n.IP6()},
		})
	}
	return w.err
}

// writer does nothing after its first error.
type writer struct {
	dir string
	err error
}

func (w *writer) file(name string, data []byte) {
	if w.err == nil {
		w.err = os.WriteFile(filepath.Join(w.dir, name), data, 0o600)
	}
}

func (w *writer) pair(name string, p Pair) {
	w.file(name+".crt", p.Cert)
	w.file(name+".key", p.Key)
}

func (w *writer) issue(a *Authority, name string, s Subject) Pair {
	if w.err != nil {
		return Pair{}
	}
	pair, err := a.Issue(s)
	if err != nil {
		w.err = fmt.Errorf("%s: %w", name, err)
	}
	w.pair(name, pair)
	return pair
}

func (w *writer) kubeconfig(a *Authority, name string, s Subject) {
	pair := w.issue(a, name, s)
	w.file(name+".kubeconfig", Kubeconfig(layout.APIServer, a.Cert, s.User, pair))
}

// Kubeconfig returns a kubeconfig file with the certificates inside, so that it needs
// no other file. It is JSON, which is valid YAML.
func Kubeconfig(server string, ca []byte, user string, p Pair) []byte {
	type object = map[string]any
	text, _ := json.MarshalIndent(object{ // cannot fail for strings and bytes
		"apiVersion":      "v1",
		"kind":            "Config",
		"clusters":        []object{{"name": "underlane", "cluster": object{"server": server, "certificate-authority-data": ca}}},
		"users":           []object{{"name": user, "user": object{"client-certificate-data": p.Cert, "client-key-data": p.Key}}},
		"contexts":        []object{{"name": "underlane", "context": object{"cluster": "underlane", "user": user}}},
		"current-context": "underlane",
	}, "", "  ")
	return append(text, '\n')
}

func addrs(texts ...string) []netip.Addr {
	ips := make([]netip.Addr, len(texts))
	for i, t := range texts {
		ips[i] = netip.MustParseAddr(t)
	}
	return ips
}
