package full

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/underlane/underlane/test/scale"
	"github.com/underlane/underlane/test/scale/agents"
)

// churn makes pods lose their readiness and their place among the endpoints, and get them
// again, perSecond pods a second, until ctx ends. Each is two writes: the pod's status and the
// EndpointSlice. It returns how many pods it has changed.
func churn(ctx context.Context, client kubernetes.Interface, nodes int, perSecond float64) int {
	work := make(chan int)
	var done sync.WaitGroup
	var n atomic.Int64
	var wrong sync.Once
	for range 32 {
		done.Go(func() {
			for i := range work {
				switch err := change(ctx, client, nodes, i); {
				case err == nil:
					n.Add(1)
				case ctx.Err() == nil:
					wrong.Do(func() { fmt.Println("a change failed:", err) })
				}
			}
		})
	}
	defer done.Wait()
	defer close(work)
	pods := nodes * scale.PodsPerNode
	start := time.Now()
	for i := 0; ; i++ {
		if wait := time.Until(start.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		select {
		case work <- i * 7919 % pods: // 7919 is a prime: each pod in turn, and no two of a Service one after the other
		case <-ctx.Done():
			return int(n.Load())
		}
	}
}

// change makes a pod not ready, or ready again if this is the second time.
func change(ctx context.Context, client kubernetes.Interface, nodes, i int) error {
	pod := scale.Pod(nodes, i)
	slice := scale.Slice(nodes, i, scale.PodsPerService)
	state := "True"
	if flipped[i%len(flipped)].Add(1)%2 == 1 {
		state = "False"
		slice.Endpoints = slices.DeleteFunc(slice.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Addresses[0] == pod.Status.PodIP })
	}
	status := fmt.Appendf(nil, `{"status":{"conditions":[{"type":"Ready","status":%q}]}}`, state)
	if _, err := client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status"); err != nil {
		return err
	}
	endpoints, err := json.Marshal(map[string]any{"endpoints": slice.Endpoints})
	if err != nil {
		return err
	}
	_, err = client.DiscoveryV1().EndpointSlices(slice.Namespace).Patch(ctx, slice.Name, types.MergePatchType, endpoints, metav1.PatchOptions{})
	return err
}

var flipped [1 << 17]atomic.Int32

// probe changes the endpoint of a Service every so often until ctx ends, and measures after
// what time each of the agents has it: took from before the request to the API server, own from
// when the API server has told it to who watches.
func probe(ctx context.Context, client kubernetes.Interface, nodes int, every time.Duration, watching []*agents.Agent) (took, own []time.Duration, lost int) {
	const first = 1000
	at := netip.AddrPortFrom(netip.MustParseAddr(probeAddr), 80)
	type arrival struct {
		port uint16
		when time.Time
	}
	seen := make([]chan arrival, len(watching))
	ctx, cancel := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	for i, a := range watching {
		seen[i] = make(chan arrival, 1<<14)
		changes, stop := a.Store.Watch()
		watchers.Go(func() {
			defer stop()
			defer close(seen[i])
			var last uint16
			for {
				if _, port, ok := a.Store.View().Service(at); ok && port != nil && len(port.Endpoints) > 0 {
					if now := port.Endpoints[0].Addr.Port(); now != last {
						last = now
						seen[i] <- arrival{now, time.Now()}
					}
				}
				select {
				case <-changes:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	written := map[uint16]time.Time{}
	told := make(chan map[uint16]time.Time, 1)
	go func() { told <- follow(ctx, client) }()
	slice := scale.Slice(nodes, 0, 1)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for port := uint16(first); ; port++ {
		ports, err := json.Marshal(map[string]any{"ports": probeSlice(slice, int32(port)).Ports})
		start := time.Now()
		if err == nil {
			_, err = client.DiscoveryV1().EndpointSlices(system).Patch(ctx, probeName, types.MergePatchType, ports, metav1.PatchOptions{})
		}
		if err == nil {
			written[port] = start
		}
		select {
		case <-ticker.C:
			continue
		case <-ctx.Done():
		}
		break
	}
	cancel()
	watchers.Wait()
	heard := <-told
	for i := range seen {
		arrived := map[uint16]time.Time{}
		for a := range seen[i] {
			arrived[a.port] = a.when
		}
		for port, when := range written {
			if time.Since(when) < 2*time.Second {
				continue // it may still be on its way
			}
			got, ok := arrived[port]
			for next := port + 1; !ok && written[next] != (time.Time{}); next++ { // it was skipped for a newer one
				got, ok = arrived[next]
			}
			if !ok {
				lost++
				continue
			}
			took = append(took, max(got.Sub(when), 0))
			if at, ok := heard[port]; ok {
				own = append(own, max(got.Sub(at), 0))
			}
		}
	}
	slices.Sort(took)
	slices.Sort(own)
	return took, own, lost
}

// follow watches the probe's slice until ctx ends, and returns when it has seen which port.
func follow(ctx context.Context, client kubernetes.Interface) map[uint16]time.Time {
	seen := map[uint16]time.Time{}
	w, err := client.DiscoveryV1().EndpointSlices(system).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + probeName})
	if err != nil {
		return seen
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if s, ok := e.Object.(*discoveryv1.EndpointSlice); ok && len(s.Ports) > 0 && s.Ports[0].Port != nil {
			if _, twice := seen[uint16(*s.Ports[0].Port)]; !twice {
				seen[uint16(*s.Ports[0].Port)] = time.Now()
			}
		}
	}
	return seen
}

func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}
