package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestFailureAccrual: an endpoint whose answers are failures is left alone, and
// gets requests again when one of them went well. Without the annotation it
// keeps its share.
func TestFailureAccrual(t *testing.T) {
	l := upL7(t, webPod("web-1", node1), webPod("web-2", node2), webPod("web-3", node2))
	accrual := strings.Replace(webService, "metadata: {name: web}", `metadata:
  name: web
  annotations:
    balancer.underlane.io/failure-accrual: consecutive
    balancer.underlane.io/failure-accrual-consecutive-max-failures: "3"
    balancer.underlane.io/failure-accrual-consecutive-min-penalty: 5s`, 1)
	plain := strings.Replace(webService, "{name: web}", "{name: plain}", 1)
	l.Apply(accrual, plain)
	waitEnrolled(t, l.Lab, "default/web-1", "default/web-2", "default/web-3")
	client := l.client(t, false)
	// failures is how many of n requests web-3 answers, with a failure.
	failures := func(service string, n int) (bad int) {
		for range n {
			resp, err := client.Get("http://" + addrPort(l.ServiceIPs("default/" + service)[0], 80) + "/ready")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				bad++
			}
		}
		return bad
	}
	ready := func(state string) {
		l.Exec("client", "labtest", "get", "http://"+addrPort(l.Pod("web-3").IP(), 8080)+"/ready/"+state)
	}
	if n := failures("web", 50) + failures("plain", 50); n > 0 {
		t.Fatalf("%d failures before there were any", n)
	}
	ready("off")
	l.Eventually(2*patience, func() error {
		if n := failures("plain", 60); n < 4 {
			return fmt.Errorf("%d failures without failure accrual: does web-3 fail?", n)
		}
		return nil
	})
	began := time.Now()
	l.Eventually(2*patience, func() error {
		if failures("web", 20); ejections(t, l, "failures") == 0 {
			return fmt.Errorf("web-3 is not ejected")
		}
		return nil
	})
	if n := failures("web", 200); n > 1 && time.Since(began) < 5*time.Second { // one trial at most
		t.Errorf("%d failures from an endpoint that is ejected", n)
	}
	ready("on")
	l.Eventually(2*patience, func() error {
		failures("web", 20)
		if n := metric(metrics(t, l.Lab, node1), "underlane_endpoints", "dst_service=web", "dst_port=80", "state=ejected"); n > 0 {
			return fmt.Errorf("%v endpoints are ejected", n)
		}
		return nil
	})
}

func ejections(t *testing.T, l *l7Lab, reason string) float64 {
	return metric(metrics(t, l.Lab, node1), "underlane_ejections_total", "reason="+reason)
}
