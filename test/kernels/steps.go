package kernels

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/test/kernels/plan"
	"github.com/underlane/underlane/test/slow"
)

// e2eTests are the tests of test/e2e that a guest runs: all ways of a connection, over both
// families and between nodes, and what happens without an agent. They judge no time.
var e2eTests = []string{
	"TestHTTP1", "TestGRPC", "TestBannerFirst", "TestWireIsEncrypted", "TestStrict", "TestNetworkPolicyIsObeyed",
	"TestKernelPath", "TestKernelPathFollowsPolicy", "TestObserve", "TestUnproxiedConnectionsAreSeen",
	"TestStrictWithoutItsAgent", "TestCleanupLeavesNothingInTheKernel",
}

// What a guest runs that has little time: a test of each kind.
var (
	shortRedirectTests = []string{
		"TestEachProgram", "TestProbes", "TestOutboundCapture", "TestInbound", "TestKernelEvents", "TestWithdrawAndFailModes",
		"TestPath", "TestDestroy", "TestObserver", "TestAnswers", "TestTheNodesProcessesReachTheApplication", "TestOneSourceManyDestinations",
	}
	shortE2ETests = []string{"TestHTTP1", "TestKernelPath", "TestObserve"}
)

func exactly(names []string) string { return "^(" + strings.Join(names, "|") + ")$" }

// oldest is the oldest line that the agent takes, as docs/install.md says.
var oldest = [2]int{5, 15}

func supported(line string) bool {
	major, minor, _ := strings.Cut(line, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	return errA == nil && errB == nil && (a > oldest[0] || a == oldest[0] && b >= oldest[1])
}

// steps returns what a guest runs. On a line that is too old, the agent must say so.
func (o *options) steps(line string) []plan.Step {
	env := []string{"UNDERLANE_TEST_BIN=" + bin, "TMPDIR=/tmp", slow.Variable + "=10"}
	test := func(name, tests string, minutes int) plan.Step {
		return plan.Step{
			Name: name, Env: env, Seconds: minutes*60 + 60,
			Args: []string{
				bin + "/" + name + ".test", "-test.v", "-test.count=1", "-test.parallel=1", "-test.run", tests,
				"-test.timeout", strconv.Itoa(minutes) + "m",
			},
		}
	}
	checks := plan.Step{Name: "check", Args: []string{bin + "/agent", "check", "-o", "json"}, Env: env, Seconds: 120, Say: true}
	if !supported(line) {
		return []plan.Step{
			checks,
			{Name: "run", Args: []string{"sh", "-c", runAgent}, Env: env, Seconds: 300, Say: true},
			test("redirect", "^TestEachProgram$", 10),
		}
	}
	if o.load {
		return []plan.Step{checks, test("redirect", "^TestEachProgram$", 10)}
	}
	redirect, e2e := "", exactly(e2eTests)
	if o.short {
		redirect, e2e = exactly(shortRedirectTests), exactly(shortE2ETests)
	}
	if o.run != "" {
		redirect, e2e = o.run, o.run
	}
	steps := []plan.Step{checks, test("redirect", redirect, 60), test("e2e", e2e, 60)}
	for i := range steps {
		steps[i].Some = o.run != ""
	}
	return steps
}

// runAgent starts an agent, which loads its programs before it asks its controller.
const runAgent = `echo 00 >/tmp/token && exec ` + bin + `/agent run --node guest --controller 127.0.0.1:1 --bootstrap-token-file /tmp/token`

// verdict is what the results of a guest mean.
type verdict struct {
	passed  int
	refused bool     // the kernel is too old, and the agent says so
	without []string // features that this kernel lacks
	wrong   []string // what failed
}

func judge(line string, want []plan.Step, s *session) verdict {
	var v verdict
	for _, e := range s.errors {
		v.wrong = append(v.wrong, "the guest: "+e)
	}
	if !s.done {
		v.wrong = append(v.wrong, "the guest ended before it had run everything")
	}
	old := !supported(line)
	for _, step := range want {
		i := slices.IndexFunc(s.results, func(r plan.Result) bool { return r.Step == step.Name })
		if i < 0 {
			v.wrong = append(v.wrong, step.Name+" has no result")
			continue
		}
		r := s.results[i]
		switch {
		case r.Step == "check":
			v.features(r, old)
		case r.Step == "run":
			if r.Code <= 0 || !strings.Contains(r.Output, needs) {
				v.wrong = append(v.wrong, fmt.Sprintf("agent run ended with %d, and should say %q:\n%s", r.Code, needs, r.Output))
			}
		default:
			v.tests(line, r, step.Some)
		}
	}
	if v.passed == 0 && len(v.wrong) == 0 {
		v.wrong = append(v.wrong, "no test ran")
	}
	return v
}

// needs is what an agent says on a kernel that is too old.
const needs = "Underlane needs Linux 5.15 or later"

// features reads the report of `agent check`: what is there of the kernel.
func (v *verdict) features(r plan.Result, old bool) {
	features, err := kernelFeatures(r.Output)
	if err != nil {
		v.wrong = append(v.wrong, fmt.Sprintf("agent check: %v:\n%s", err, r.Output))
		return
	}
	for _, f := range features {
		switch f.Result {
		case check.Warning:
			v.without = append(v.without, f.Description)
		case check.Failure:
			if old {
				v.refused = true
				v.without = append(v.without, f.Description)
				continue
			}
			v.wrong = append(v.wrong, fmt.Sprintf("agent check: %s: %s", f.Description, f.Error))
		}
	}
	if old && !v.refused {
		v.wrong = append(v.wrong, "agent check finds nothing missing")
	}
}

func kernelFeatures(output string) ([]check.Result, error) {
	_, text, ok := strings.Cut(output, "{")
	if !ok {
		return nil, errors.New("it printed no JSON")
	}
	var report check.Report
	if err := json.NewDecoder(strings.NewReader("{" + text)).Decode(&report); err != nil {
		return nil, err
	}
	for _, c := range report.Categories {
		if c.Name == "kernel-features" {
			return c.Checks, nil
		}
	}
	return nil, errors.New("it has no category kernel-features")
}

// laterFeature is in the reason of a test that is skipped where the kernel is older than a
// feature.
var laterFeature = regexp.MustCompile(`this kernel has no (.+) \(Linux (\d+\.\d+)\)`)

// lacks returns the feature that a reason names, if kernels of the line do not have it.
func lacks(line, reason string) (feature string, ok bool) {
	m := laterFeature.FindStringSubmatch(reason)
	if m == nil || number(line) == 0 || number(line) >= number(m[2]) {
		return "", false
	}
	return m[1] + " (Linux " + m[2] + ")", true
}

func (v *verdict) tests(line string, r plan.Result, some bool) {
	v.passed += r.Passed
	for _, name := range r.Failed {
		v.wrong = append(v.wrong, r.Step+": "+name)
	}
	// A test that is skipped did not say that the kernel can do it.
	for _, s := range r.Skipped {
		feature, ok := lacks(line, s.Reason)
		if !ok {
			v.wrong = append(v.wrong, r.Step+": "+s.Test+" was skipped: "+s.Reason)
		} else if !slices.Contains(v.without, feature) {
			v.without = append(v.without, feature)
		}
	}
	if r.Code != 0 && len(r.Failed) == 0 {
		v.wrong = append(v.wrong, fmt.Sprintf("%s ended with %d", r.Step, r.Code))
	}
	if r.Passed == 0 && r.Code == 0 && !some {
		v.wrong = append(v.wrong, r.Step+": no test ran")
	}
}
