package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// valuesOfBefore are set when the release before is installed. Each is kept.
const valuesOfBefore = `
controller:
  replicas: 2
  podAnnotations: {kept: "yes"}
agent:
  podLimits: {connections: 5000}
  extraArgs: [--log-level=debug]
identity: {workloadCertLifetime: 2h}
`

// TestReleases installs the release before, with values, brings it to this version and back,
// by the command lines of both and by Helm. Images, command line and chart of this version are
// those of a release, as they are published. In each step, under traffic, no request and no
// connection fails, and new pods are enrolled. The servers are strict: what bypasses the
// mesh is refused.
func TestReleases(t *testing.T) {
	before, now := lastRelease(t), thisRelease(t)
	values := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(values, []byte(valuesOfBefore), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Run("command", func(t *testing.T) { byCommand(t, before, now, values) })
	t.Run("Helm", func(t *testing.T) { byHelm(t, before, now, values) })
}

// byCommand has the controllers go first in both directions, so that controllers and agents
// are one version apart in both.
func byCommand(t *testing.T, before, now release, values string) {
	before.run(t, "install", "--apply", "-f", values)
	ready(t, system, "deploy/underlane-controller", "daemonset/underlane-agent")
	running(t, before, before)
	u := &upgrading{t: t, traffic: newTraffic(t, strict)}

	u.step("controllers of this version", func() { now.controllers(t) })
	running(t, now, before)
	skipping(t)
	u.step("agents of this version", func() { now.run(t, "upgrade", "--apply") })
	running(t, now, now)
	kept(t)
	images(t, now)
	now.run(t, "check", "--wait", "3m")
	now.run(t, "check", "--proxy", "-n", u.traffic.ns)

	u.step("controllers of the version before", func() { before.controllers(t) })
	running(t, before, now)
	u.step("agents of the version before", func() { before.run(t, "upgrade", "--apply") })
	running(t, before, before)
	kept(t)
	before.run(t, "check", "--wait", "3m")
	before.run(t, "uninstall", "--apply", "--force")
}

// byHelm upgrades the chart, and rolls it back: controllers and agents at once.
func byHelm(t *testing.T, before, now release, values string) {
	h := newHelm(t)
	chart := h.pull(t, now.chart)
	kubectl(t, "create", "namespace", system)
	kubectl(t, "label", "namespace", system, "pod-security.kubernetes.io/enforce=privileged")
	h.run(t, "install", "underlane", before.chart, "-n", system, "-f", values, "--wait", "--timeout=5m")
	ready(t, system, "deploy/underlane-controller", "daemonset/underlane-agent")
	running(t, before, before)
	u := &upgrading{t: t, traffic: newTraffic(t, strict)}

	u.step("helm upgrade", func() { h.run(t, "upgrade", "underlane", chart, "-n", system) })
	running(t, now, now)
	kept(t)
	now.run(t, "check", "--wait", "3m")
	if out, err := now.try(t, "upgrade"); err == nil || !strings.Contains(err.Error(), "helm upgrade") {
		t.Errorf("upgrade of what Helm has installed: %v, want it refused:\n%s", err, out)
	}
	u.step("helm rollback", func() { h.run(t, "rollback", "underlane", "1", "-n", system) })
	running(t, before, before)
	kept(t)
	before.run(t, "check", "--wait", "3m")
}

// upgrading is traffic while versions change.
type upgrading struct {
	t       *testing.T
	traffic *traffic
	steps   int
}

// step does something under traffic, and then starts a pod that has to be enrolled.
func (u *upgrading) step(what string, do func()) {
	u.t.Helper()
	u.steps++
	began, tr := time.Now(), u.traffic
	tr.start(u.t)
	attempts := requestsUntil(u.t, tr.ns, tr.client, "--interval", "20ms", "--timeout", "30s", "--fresh", "http://web/")
	do()
	ready(u.t, system, "deploy/underlane-controller", "daemonset/underlane-agent")
	tr.check(u.t, what, 0)
	judge(u.t, what+", each request on a connection of its own", attempts(), 0)
	name := fmt.Sprintf("late-%d", u.steps)
	apply(u.t, tr.ns, deployment(name, clientArgs))
	ready(u.t, tr.ns, "deploy/"+name)
	pod := podOf(u.t, tr.ns, name)
	enrolled(u.t, tr.ns, pod)
	reachable(u.t, tr.ns, pod, "http://web/")
	u.t.Logf("%s: %s", what, time.Since(began).Round(time.Second))
}

// skipping checks that a command line of two versions later is refused while agents of the
// version before are there, although the controllers are newer, and that it changes nothing.
func skipping(t *testing.T) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "underlane")
	local(t, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-X github.com/underlane/underlane/internal/version.Version="+beyond, "-o", program, "./cmd/underlane")
	versions := func() string {
		return kubectl(t, "get", "-n", system, "deploy/underlane-controller", "daemonset/underlane-agent",
			"-o", "jsonpath={.items[*].metadata.generation} {.items[*].spec.template.spec.containers[0].image}")
	}
	was := versions()
	if out, err := (release{version: beyond, program: program}).try(t, "upgrade", "--apply"); err == nil || !strings.Contains(err.Error(), "skips v0.2") {
		t.Errorf("upgrade to %s: %v, want it refused:\n%s", beyond, err, out)
	}
	if now := versions(); now != was {
		t.Errorf("the refused upgrade has changed %s to %s", was, now)
	}
}

// kept checks that what was set at the installation is still set.
func kept(t *testing.T) {
	t.Helper()
	args := kubectl(t, "get", "-n", system, "deploy/underlane-controller", "daemonset/underlane-agent", "-o",
		`jsonpath={range .items[*]}{.spec.replicas} {.spec.template.metadata.annotations} {.spec.template.spec.containers[0].args}{"\n"}{end}`)
	for _, want := range []string{"2 {", `"kept":"yes"`, "--workload-cert-lifetime=2h", "--pod-connections=5000", "--log-level=debug"} {
		if !strings.Contains(args, want) {
			t.Errorf("got %s, want %s", args, want)
		}
	}
}
