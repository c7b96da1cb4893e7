package proc

import (
	"os"
	"testing"
	"time"
)

func TestParseStatCPU(t *testing.T) {
	const tail = " S 1 2 3 0 -1 4194560 1 2 3 4 150 25 7 8 20 0 1 0 99 1000 10"
	for _, stat := range []string{"12 (agent)" + tail, "12 (a) R) (b)" + tail} {
		got, err := ParseStatCPU([]byte(stat))
		if want := 1750 * time.Millisecond; got != want || err != nil {
			t.Errorf("%s: %v, %v, want %v", stat, got, err, want)
		}
	}
	for _, stat := range []string{"", "12 (agent) S 1", "12 agent" + tail, "12 (a) S 1 2 3 0 -1 4194560 1 2 3 4 x 25 7"} {
		if _, err := ParseStatCPU([]byte(stat)); err == nil {
			t.Errorf("%q: got no error, want one", stat)
		}
	}
}

const status = "Name:\tVmRSS: no\nVmHWM:\t  99 kB\nVmRSS:\t    1234 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t35\n"

func TestParseStatus(t *testing.T) {
	if got, err := ParseRSS([]byte(status)); got != 1234<<10 || err != nil {
		t.Errorf("ParseRSS = %d, %v; want %d", got, err, 1234<<10)
	}
	if _, err := ParseRSS([]byte("Name:\tzombie\n")); err == nil {
		t.Error("a status without a resident size: got no error, want one")
	}
	if got := ParseSwitches([]byte(status)); got != 42 {
		t.Errorf("ParseSwitches = %d, want 42", got)
	}
}

func TestParseMetric(t *testing.T) {
	const text = "# TYPE go_mallocs counter\ngo_mallocs_total 1.5e+06\ngo_mallocs 3\n"
	if got, err := ParseMetric(text, "go_mallocs"); got != 3 || err != nil {
		t.Errorf("ParseMetric = %v, %v; want 3", got, err)
	}
	if _, err := ParseMetric(text, "go_malloc"); err == nil {
		t.Error("a metric that does not exist: got no error, want one")
	}
}

// TestClockAgreesWithStat checks that the process clock has the same time as
// /proc/PID/stat, with a finer resolution.
func TestClockAgreesWithStat(t *testing.T) {
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); { // use some processor time
	}
	u, err := Of([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	stat, err := ParseStatCPU(text)
	if err != nil {
		t.Fatal(err)
	}
	if d := stat - u.CPU; d < -30*time.Millisecond || d > 100*time.Millisecond {
		t.Errorf("got %v by the clock, want about %v as in /proc/PID/stat", u.CPU, stat)
	}
	if u.RSS < 1<<20 || u.Switches == 0 {
		t.Errorf("got %+v, want 1 MiB resident or more, and some switches", u)
	}
	if _, err := Of([]int{1 << 30}); err == nil {
		t.Error("a process that does not exist: got no error, want one")
	}
}
