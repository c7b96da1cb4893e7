package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/fabric"
)

// linkLocal is what each server gets on its link to the node.
var linkLocal = netip.MustParseAddr("fe80::22")

// addAddress gives a pod an address beside those that the cluster knows, and its
// node the route to it. It returns the index of the node's end of the pod's link.
func addAddress(t *testing.T, l *lab.Lab, ref string, addr netip.Addr) int {
	t.Helper()
	pod := l.Pod(ref)
	bits := addr.BitLen()
	if addr == linkLocal {
		bits = 64
	}
	_, err := inNetns(t, pod.Netns, func() (struct{}, error) {
		eth, err := netlink.LinkByName(fabric.PodLink)
		if err == nil {
			own := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}}
			if addr.Is6() {
				own.Flags = unix.IFA_F_NODAD
			}
			err = netlink.AddrAdd(eth, own)
		}
		return struct{}{}, err
	})
	if err != nil {
		t.Fatalf("address %s of %s: %v", addr, ref, err)
	}
	link, err := inNetns(t, nodeNetns(t, l, pod.Node), func() (int, error) {
		routes, err := netlink.RouteGet(pod.IP().AsSlice())
		if err != nil || len(routes) == 0 {
			return 0, fmt.Errorf("route to the pod: %w", err)
		}
		link := routes[0].LinkIndex
		if addr == linkLocal {
			return link, nil
		}
		return link, netlink.RouteAdd(&netlink.Route{
			LinkIndex: link, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, bits)},
		})
	})
	if err != nil {
		t.Fatalf("route to %s of %s: %v", addr, ref, err)
	}
	return link
}

// onLink is an HTTP client in the namespace of a pod's node, as a process that is
// none of the node's own: what a neighbour on the pod's link is.
func onLink(t *testing.T, l *lab.Lab, node string, http2 bool) *http.Client {
	netns := nodeNetns(t, l, node)
	tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
		return inNetns(t, netns, func() (net.Conn, error) { return net.DialTimeout(network, addr, patience) })
	}}
	tr.Protocols.SetHTTP1(!http2)
	tr.Protocols.SetUnencryptedHTTP2(http2)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// TestAddressesThatNobodyKnows: the policy of a pod holds for every address that
// it has, also for those that no API tells of: secondary ones, and the link-local
// ones of IPv6. What happens at them without a mesh happens with the policy allow.
func TestAddressesThatNobodyKnows(t *testing.T) {
	t.Parallel()
	outsider, bare, strict := clientPod("outsider", node1), serverPod("bare", node2), serverPod("strict", node2)
	outsider.Labels, bare.Labels = nil, nil
	strict.Annotations = map[string]string{"underlane.io/policy": "strict"}
	l := lab.Up(t, lab.Options{}, manifests(outsider, clientPod("client", node1), bare, serverPod("open", node2), strict))
	waitEnrolled(t, l, "default/client", "default/open", "default/strict")
	tap := startTap(t, l, node2)
	for i, server := range []string{"bare", "open", "strict"} {
		want := 200
		if server == "strict" {
			want = 403
		}
		// shown: tap has what was let in and what was not.
		shown := func(t *testing.T, ip netip.Addr, path, version string) {
			t.Helper()
			if server == "bare" {
				return
			}
			e := tap.wait("the request for "+path, func(e event) bool {
				return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == path && e.ProxyDirection == "INBOUND"
			})
			if strings.Split(e.Destination.IP, "%")[0] != ip.String() || e.Destination.Metadata["pod"] != server || e.Protocol != version ||
				e.ResponseEndEvent.HTTPStatus != want || (e.Reason == "no-identity") != (want == 403) || e.TLS != "no-identity" {
				t.Error(e)
			}
		}
		for _, ip := range []netip.Addr{
			netip.MustParseAddr(fmt.Sprintf("10.77.2.%d", 200+i)), netip.MustParseAddr(fmt.Sprintf("fd77:1:2::%d", 200+i)),
		} {
			t.Run(fmt.Sprintf("%s at %s", server, ip), func(t *testing.T) {
				addAddress(t, l, server, ip)
				for _, client := range []string{"outsider", "client"} { // whose agent does not know it, either
					for version, flag := range map[string]string{"http1": "--http2=false", "http2": "--http2=true"} {
						path := fmt.Sprintf("/%s/%s/%s", ip, client, version)
						out := l.Exec(client, "labtest", "get", "-i", flag, "http://"+addrPort(ip, 8080)+path)
						if !strings.Contains(out, fmt.Sprintf(" %d ", want)) || strings.Contains(out, "Underlane-Reason: no-identity") != (want == 403) {
							t.Errorf("%s, %s: want status %d: %s", client, version, want, out)
						}
						shown(t, ip, path, version)
					}
					r := say(l, client, addrPort(ip, 7000), "echo")
					if served := r.Code == 0 && r.Stdout == "echo"; served != (want == 200) || !served && r.Stdout != "" {
						t.Errorf("bytes from %s: %s", client, r)
					}
				}
				url := "http://" + addrPort(ip, 8080) + "/"
				if out := l.NodeExec(node2, "labtest", "get", "-i", url); !strings.Contains(out, " 200 OK\n") {
					t.Errorf("a probe of the pod's own node: %s", out)
				}
				if out := l.Exec(server, "labtest", "get", "-i", url); !strings.Contains(out, " 200 OK\n") {
					t.Errorf("the pod itself: %s", out)
				}
			})
		}
		t.Run(server+" at "+linkLocal.String(), func(t *testing.T) {
			link := addAddress(t, l, server, linkLocal)
			address := addrPort(linkLocal, 8080)
			zoned := func(zone, path string) string {
				return "http://" + strings.Replace(address, "]", "%25"+zone+"]", 1) + path
			}
			for version, http2 := range map[string]bool{"http1": false, "http2": true} {
				path := fmt.Sprintf("/link-local/%s/%s", server, version)
				resp, err := onLink(t, l, node2, http2).Get(zoned(strconv.Itoa(link), path))
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != want || want == 200 && !strings.Contains(string(body), `"hostname":"`+server+`"`) {
					t.Errorf("%s from the link: %s %s", version, resp.Status, body)
				}
				shown(t, linkLocal, path, version)
			}
			if out := l.NodeExec(node2, "labtest", "get", "-i", zoned(strconv.Itoa(link), "/")); !strings.Contains(out, " 200 OK\n") {
				t.Errorf("a probe of the pod's own node: %s", out)
			}
			if out := l.Exec(server, "labtest", "get", "-i", zoned(fabric.PodLink, "/")); !strings.Contains(out, " 200 OK\n") {
				t.Errorf("the pod itself: %s", out)
			}
		})
	}
}
