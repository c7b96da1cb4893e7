package full

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	_ "net/http/pprof" // of the controller that this program is
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/controller"
	"github.com/underlane/underlane/pkg/controller/cluster"
	"github.com/underlane/underlane/pkg/mesh"
)

// asController is the first argument of this program where it is to be a controller, one that
// can be profiled. The product has no port for that.
const asController = "controller"

// runController is the controller's main function.
func runController(args []string) error {
	opt := controller.Options{
		WorkloadLifetime: controller.DefaultWorkloadLifetime, NodeLifetime: controller.DefaultNodeLifetime, TrustDomain: mesh.DefaultTrustDomain,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	of := cluster.Options{LeaderElection: true}
	opt.Cluster = of.Open
	f := flag.NewFlagSet(asController, flag.ExitOnError)
	f.StringVar(&of.Kubeconfig, "kubeconfig", "", "")
	f.StringVar(&of.Namespace, "namespace", "", "")
	f.StringVar(&of.TapAddr, "tap-addr", "", "")
	f.IntVar(&of.HistoryBytes, "history-bytes", 0, "")
	f.StringVar(&opt.Listen, "listen", "", "")
	f.StringVar(&opt.MetricsAddr, "metrics-addr", "", "")
	pprof := f.String("pprof", "", "")
	_ = f.Parse(args)
	controller.SettleMemory()
	controller.SettleProcessors()
	go controller.PaceCollection(context.Background())
	runtime.MemProfileRate = 32 << 10
	go func() { fmt.Fprintln(os.Stderr, http.ListenAndServe(*pprof, nil)) }()
	c, err := controller.New(opt)
	if err != nil {
		return err
	}
	return c.Run(context.Background())
}

// heap writes a profile of what the controller holds, and returns what it is: the live heap
// and the stacks, in bytes as the runtime says it.
func (r *replica) heap(name string) string {
	if r.pprof == "" {
		return ""
	}
	r.fetch("/debug/pprof/heap?gc=1", name+".heap")
	r.fetch("/debug/pprof/goroutine", name+".goroutines")
	resp, err := r.metricsClient.Get("http://" + r.pprof + "/debug/pprof/heap?debug=1")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	var out []string
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		for _, what := range []string{"# HeapAlloc", "# HeapInuse", "# HeapSys", "# Stack", "# Sys", "# NumGC"} {
			if strings.HasPrefix(lines.Text(), what+" ") {
				out = append(out, strings.TrimPrefix(lines.Text(), "# "))
			}
		}
	}
	return strings.Join(out, ", ")
}

// cpu writes a profile of the processor for so long.
func (r *replica) cpu(name string, lasts time.Duration) {
	if r.pprof != "" {
		r.fetch(fmt.Sprintf("/debug/pprof/profile?seconds=%d", int(lasts.Seconds())), name+".cpu")
	}
}

func (r *replica) fetch(path, name string) {
	resp, err := r.metricsClient.Get("http://" + r.pprof + path)
	if err != nil {
		r.p.t.Error(err)
		return
	}
	defer resp.Body.Close()
	f, err := os.Create(filepath.Join(*profiles, name))
	if err != nil {
		r.p.t.Error(err)
		return
	}
	defer f.Close()
	if _, err := io.Copy(f, resp.Body); err != nil {
		r.p.t.Error(err)
	}
}
