package selfcheck

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/underlane/underlane/test/demo/banner"
	"github.com/underlane/underlane/test/demo/catalog"
	"github.com/underlane/underlane/test/demo/selfcheck/wire"
	"github.com/underlane/underlane/test/demo/web"
)

// fakeLab is an environment variable that makes the test binary a lab. Its value is
// "good" or the name of a fault.
const fakeLab = "UNDERLANE_TEST_FAKE_LAB"

func TestMain(m *testing.M) {
	if fault := os.Getenv(fakeLab); fault != "" {
		if err := playLab(fault, strings.Join(os.Args[1:], " ")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// playLab answers the commands of the checks.
func playLab(fault, command string) error {
	has := func(part string) bool { return strings.Contains(command, part) }
	switch {
	case command == "pods":
		fmt.Print(podTable)
	case has("banner-client"):
		fmt.Printf(`{"answered":%d}`, 3*time.Millisecond)
	case has("leaderboard"):
		fmt.Printf(`[{"shortcode":":pizza:","votes":%d}]`, time.Now().UnixMilli()) // increases
	case has("emojivote get"):
		fmt.Println(catalog.Doughnut, banner.Greeting)
	case has("tap"):
		os.Stdout.Write(tapOutput(goodTap()))
		time.Sleep(time.Hour) // like tap, it never ends
	case has("top"):
		if fault == "top" {
			return fmt.Errorf("no agent socket")
		}
		os.Stdout.Write(topOutput(calls("web", "voting", web.VotePath(catalog.Doughnut), 9, false)))
	case has("capture"):
		if err := wire.WriteHeader(os.Stdout); err != nil {
			return err
		}
		_, err := os.Stdout.Write(goodCapture().Bytes())
		return err
	default:
		return fmt.Errorf("unexpected command %q", command)
	}
	return nil
}

func runFake(t *testing.T, ctx context.Context, fault string) ([]Result, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(fakeLab, fault)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // otherwise each child of a -race test waits for 1 s at its end
	return Run(ctx, Config{
		Lab: Lab{Command: []string{self}}, Capture: "democheck", Uplink: "eth0", Log: io.Discard,
		Times: Times{Votes: 10 * time.Millisecond, Tap: 4 * time.Second, Top: 3 * time.Second, Capture: 3 * time.Second},
	})
}

func TestRun(t *testing.T) {
	results, err := runFake(t, t.Context(), "good")
	if err != nil || len(results) != 5 {
		t.Fatalf("got %d results, %v; want 5 and no error", len(results), err)
	}
	for _, r := range results {
		if r.Err != nil {
			t.Errorf("%s: got %v, want no error", r.Check, r.Err)
		}
	}
}

func TestRunGoesOnAfterAFault(t *testing.T) {
	results, err := runFake(t, t.Context(), "top")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		isTop := strings.HasPrefix(r.Check, "top")
		if (r.Err != nil) != isTop || isTop && !strings.Contains(r.Err.Error(), "no agent socket") {
			t.Errorf("%s: saw %q, %v; want an error only of top", r.Check, r.Saw, r.Err)
		}
	}
}

func TestRunStops(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := runFake(t, ctx, "good"); err == nil {
		t.Error("Run with a context that ends: got no error, want one")
	}
}

// TestLabRunIsBounded checks that a command which ignores SIGTERM is killed with its
// children.
func TestLabRunIsBounded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := Lab{Command: []string{"sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60"}}.Run(ctx)
	if took := time.Since(start); err == nil || took > 5*childGrace {
		t.Errorf("took %v with error %v, want a timely end with an error", took, err)
	}
}

func TestLabForFailsWhenTheCommandEnds(t *testing.T) {
	if _, err := (Lab{Command: []string{"true"}}).For(t.Context(), time.Minute); err == nil {
		t.Error("For a command that ends: got no error, want one")
	}
	out, err := Lab{Command: []string{"sh", "-c", "echo hello; sleep 60"}}.For(t.Context(), 2*time.Second)
	if err != nil || string(out) != "hello\n" {
		t.Errorf("got %q, %v; want hello and no error", out, err)
	}
}
