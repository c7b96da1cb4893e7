package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestLabelRunningPod checks that a label brings a running pod into the mesh in less
// than a second and without a restart. Connections from before are left alone and
// counted.
func TestLabelRunningPod(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	apply(t, ns, deployment("server", serveAll, node("node-2"))+service("server", []string{"80:8080", "7000:7000"})+
		deployment("client", clientArgs, node("node-1")))
	ready(t, ns, "deploy/server", "deploy/client")
	client, server := podOf(t, ns, "client"), podOf(t, ns, "server")
	before := kubectl(t, "get", "-n", ns, server, "-o", "jsonpath={.metadata.uid} {.status.containerStatuses[0].restartCount}")

	// Ready only means started, and kube-proxy may be a moment behind.
	eventually(t, patience, func() error {
		_, err := in(t, ns, client, "/labtest", "dial", "server:7000")
		return err
	})
	held := command(t.Context(), "kubectl", "--", "exec", "-i", "-n", ns, client, "--", "/labtest", "hold", "server:7000")
	input, err := held.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := held.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := held.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(output)
	if line, err := out.ReadString('\n'); err != nil || line != "holding\n" {
		t.Fatalf("connection before the mesh: got %q, %v, %v; want it held", line, err, held.Wait())
	}

	for _, pod := range []string{server, client} {
		kubectl(t, "label", "-n", ns, pod, "underlane.io/mesh=enabled")
		labelled := time.Now()
		enrolled(t, ns, pod)
		// kubectl takes most of that time, so this is an upper bound.
		t.Logf("%s: label to status seen: %s", pod, time.Since(labelled).Round(time.Millisecond))
	}
	if s := status(t, ns, client); !strings.Contains(s, "1 connection") {
		t.Errorf("got status %q, want the connection that predates the mesh in it", s)
	}
	watched(t, []string{"-n", ns, client}, func() error {
		_, err := in(t, ns, client, "/labtest", "get", "http://server/hello")
		return err
	}, has("req ", "tls=true", ":path=/hello"))

	kubectl(t, "label", "-n", ns, client, "underlane.io/mesh-")
	eventually(t, patience, func() error {
		if s := status(t, ns, client); s != "" {
			return fmt.Errorf("status %q after the label was taken off", s)
		}
		return nil
	})
	mustIn(t, ns, client, "/labtest", "get", "http://server/after")
	input.Close()
	line, err := out.ReadString('\n')
	if err := errors.Join(err, held.Wait()); err != nil || !strings.HasPrefix(line, "rounds ") {
		t.Errorf("connection that predates the mesh: got %v, %q; want it to survive", err, line)
	}
	after := kubectl(t, "get", "-n", ns, server, "-o", "jsonpath={.metadata.uid} {.status.containerStatuses[0].restartCount}")
	if before != after {
		t.Errorf("restarts: got %s, want %s as before", after, before)
	}
}

// TestLabelNamespace checks that a namespace's label brings all its pods into the
// mesh, except those that opt out and those on the host's network. The status of the
// latter says so.
func TestLabelNamespace(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	no := func(p *podTemplate) { p.labels += ", underlane.io/mesh: disabled" }
	apply(t, ns, deployment("a", httpArgs)+deployment("b", clientArgs, no)+
		deployment("host", clientArgs, podSpec("hostNetwork: true")))
	ready(t, ns, "deploy/a", "deploy/b", "deploy/host")
	kubectl(t, "label", "namespace", ns, "underlane.io/mesh=enabled")
	enrolled(t, ns, podOf(t, ns, "a"))
	leftOut(t, ns, podOf(t, ns, "host"))
	if s := status(t, ns, podOf(t, ns, "b")); s != "" {
		t.Errorf("a pod that opts out: status %q, want none", s)
	}
	kubectl(t, "label", "namespace", ns, "underlane.io/mesh-")
	eventually(t, patience, func() error {
		for _, app := range []string{"a", "host"} {
			if s := status(t, ns, podOf(t, ns, app)); s != "" {
				return fmt.Errorf("%s: status %q after the namespace's label went", app, s)
			}
		}
		return nil
	})
}

// TestInitContainerIsCaptured checks that no packet bypasses the mesh: an init
// container that connects at once is already captured.
func TestInitContainerIsCaptured(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	apply(t, ns, deployment("server", httpArgs, annotation("underlane.io/policy", "strict"))+service("server", []string{"80:8080"})+
		deployment("first", clientArgs, node("node-1"))+deployment("second", clientArgs, node("node-2")))
	ready(t, ns, "deploy/server", "deploy/first", "deploy/second")
	enrolled(t, ns, podOf(t, ns, "server"))
	for _, client := range []string{"first", "second"} { // the server is not under test
		reachable(t, ns, podOf(t, ns, client), "http://server/")
	}
	const attempts = 5
	for i := range attempts {
		name := fmt.Sprintf("early-%d", i)
		// The server refuses clients without an identity. A single request that bypasses
		// the mesh makes the init container fail for good.
		apply(t, ns, pod(name, clientArgs, podSpec("restartPolicy: Never"), podSpec(fmt.Sprintf(`initContainers:
- name: early
  image: %s
  imagePullPolicy: IfNotPresent
  command: [/labtest, get, "http://server/early"]`, image))))
	}
	for i := range attempts {
		name := fmt.Sprintf("early-%d", i)
		ready(t, ns, "pod/"+name)
		enrolled(t, ns, "pod/"+name) // the status follows the enrolment after a moment
		if s := status(t, ns, "pod/"+name); strings.Contains(s, "predate") {
			t.Errorf("%s: status %q, want no connection that predates the mesh", name, s)
		}
	}
}

// TestJobsAndCrashLoops checks that jobs end by themselves, and that replacement pods
// and pods in a crash loop are in the mesh.
func TestJobsAndCrashLoops(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	apply(t, ns, deployment("server", httpArgs)+service("server", []string{"80:8080"})+
		deployment("first", clientArgs, node("node-1"))+deployment("second", clientArgs, node("node-2")))
	ready(t, ns, "deploy/server", "deploy/first", "deploy/second")
	for _, client := range []string{"first", "second"} { // a job has only one try, on any node
		reachable(t, ns, podOf(t, ns, client), "http://server/")
	}
	apply(t, ns, fmt.Sprintf(`
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  completions: 3
  parallelism: 3
  backoffLimit: 0
  template:
    metadata: {labels: {app: once}}
    spec:
      restartPolicy: Never
      containers:
      - {name: main, image: %[1]q, imagePullPolicy: IfNotPresent, command: [/labtest, get, --count, "5", "http://server/job"]}
---
`, image)+deployment("crashing", []string{"status-that-does-not-exist"}))
	kubectl(t, "wait", "-n", ns, "--for=condition=complete", "--timeout=170s", "job/once")
	enrolled(t, ns, podOf(t, ns, "server"))

	// A deleted pod gets a replacement.
	server := podOf(t, ns, "server")
	uid := kubectl(t, "get", "-n", ns, server, "-o", "jsonpath={.metadata.uid}")
	kubectl(t, "delete", "-n", ns, server, "--wait=false")
	eventually(t, 2*patience, func() error {
		now := kubectl(t, "get", "pods", "-n", ns, "-l", "app=server", "--field-selector=status.phase=Running", "-o", "jsonpath={.items[*].metadata.uid}")
		if now == "" || strings.Contains(now, uid) {
			return fmt.Errorf("running: %q", now)
		}
		return nil
	})
	ready(t, ns, "deploy/server")
	enrolled(t, ns, podOf(t, ns, "server"))

	eventually(t, 2*patience, func() error {
		restarts := kubectl(t, "get", "pods", "-n", ns, "-l", "app=crashing", "-o", "jsonpath={.items[0].status.containerStatuses[0].restartCount}")
		if restarts == "" || restarts == "0" || restarts == "1" {
			return fmt.Errorf("restarts %q", restarts)
		}
		return nil
	})
	crashing := strings.Fields(kubectl(t, "get", "pods", "-n", ns, "-l", "app=crashing", "-o", "jsonpath={.items[0].metadata.name}"))[0]
	enrolled(t, ns, "pod/"+crashing)
	underlane(t, "check", "--proxy", "-n", ns)
}
