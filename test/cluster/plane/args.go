package plane

import (
	"github.com/underlane/underlane/test/cluster/layout"
	"github.com/underlane/underlane/test/cluster/pki"
)

const (
	etcdClient = "http://127.0.0.1:2379"
	etcdPeer   = "http://127.0.0.1:2380"
)

// args returns the part's command line.
func args(c layout.Cluster, p Part) []string {
	file := func(name string) string { return c.File("pki", name) }
	switch p {
	case Etcd:
		return []string{
			"--data-dir=" + c.File("etcd"),
			"--unsafe-no-fsync", // the data need not survive a crash of the machine
			"--listen-client-urls=" + etcdClient, "--advertise-client-urls=" + etcdClient,
			"--listen-peer-urls=" + etcdPeer, "--initial-advertise-peer-urls=" + etcdPeer,
			"--initial-cluster=default=" + etcdPeer,
			"--log-level=warn",
		}
	case APIServer:
		return []string{
			"--etcd-servers=" + etcdClient,
			"--bind-address=0.0.0.0", "--secure-port=6443", "--advertise-address=" + layout.ControlPlaneIP,
			"--tls-cert-file=" + file(pki.APIServer+".crt"), "--tls-private-key-file=" + file(pki.APIServer+".key"),
			"--client-ca-file=" + file(pki.CA+".crt"),
			"--kubelet-client-certificate=" + file(pki.KubeletClient+".crt"), "--kubelet-client-key=" + file(pki.KubeletClient+".key"),
			"--kubelet-certificate-authority=" + file(pki.CA+".crt"), "--kubelet-preferred-address-types=InternalIP",
			"--service-account-key-file=" + file(pki.Signing+".pub"), "--service-account-signing-key-file=" + file(pki.Signing+".key"),
			"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--service-cluster-ip-range=" + c.ServiceCIDR(),
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged",
			// Pods serve aggregated APIs. The API server has routes to pods but no
			// kube-proxy, so it must connect to endpoints and not to Services.
			"--enable-aggregator-routing",
			"--requestheader-client-ca-file=" + file(pki.FrontProxyCA+".crt"), "--requestheader-allowed-names=" + pki.FrontProxy,
			"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
			"--requestheader-username-headers=X-Remote-User",
			"--proxy-client-cert-file=" + file(pki.FrontProxy+".crt"), "--proxy-client-key-file=" + file(pki.FrontProxy+".key"),
		}
	case ControllerManager:
		kubeconfig := file("controller-manager.kubeconfig")
		return []string{
			"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
			"--service-account-private-key-file=" + file(pki.Signing+".key"), "--root-ca-file=" + file(pki.CA+".crt"),
			"--cluster-signing-cert-file=" + file(pki.CA+".crt"), "--cluster-signing-key-file=" + file(pki.CA+".key"),
			"--use-service-account-credentials", "--leader-elect=false", "--bind-address=127.0.0.1",
			// Longer than the kubelet's lease of 8 s, and longer than an absence of the
			// API server of 15 s, which must not make nodes unhealthy.
			"--node-monitor-period=2s", "--node-monitor-grace-period=20s",
		}
	case Scheduler:
		kubeconfig := file("scheduler.kubeconfig")
		return []string{
			"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
			"--leader-elect=false", "--bind-address=127.0.0.1",
		}
	}
	return nil
}
