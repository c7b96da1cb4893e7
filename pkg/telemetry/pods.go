package telemetry

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/underlane/underlane/pkg/mesh"
)

// DefaultMaxPods is how many pods have metrics of their own by default. A kubelet runs 110
// pods unless it is told otherwise, and each pod has 13 series.
const DefaultMaxPods = 256

// PodCost is what a pod of this node costs the agent.
type PodCost struct {
	Namespace, Name string
	Weight          int     // its share of the processors
	Sides           [2]Cost // by mesh.Direction
}

// Cost is what a pod costs in one direction. Processor, Waited and Waits are sums since the
// agent has the pod, the others current values.
type Cost struct {
	Processor   time.Duration // processor time
	Waited      time.Duration // for turns at the processors, of all goroutines together
	Waits       uint64
	Connections uint64
	Descriptors uint64
	Bytes       uint64 // that wait for a receiver, or for the rest of a head
}

var (
	sideLabels = []string{"namespace", "pod", "direction"}

	podProcessorDesc   = prometheus.NewDesc("underlane_pod_processor_seconds_total", "Processor time that the agent has spent for a pod of its node.", sideLabels, nil)
	podWaitedDesc      = prometheus.NewDesc("underlane_pod_wait_seconds_total", "Time that work for a pod has waited for its turn at the processors, of all goroutines together.", sideLabels, nil)
	podWaitsDesc       = prometheus.NewDesc("underlane_pod_waits_total", "Times that work for a pod has waited for its turn at the processors.", sideLabels, nil)
	podConnectionsDesc = prometheus.NewDesc("underlane_pod_connections", "Connections of a pod that the proxy carries.", sideLabels, nil)
	podDescriptorsDesc = prometheus.NewDesc("underlane_pod_descriptors", "File descriptors of the agent that a pod's connections take.", sideLabels, nil)
	podBytesDesc       = prometheus.NewDesc("underlane_pod_buffered_bytes", "Bytes of a pod's connections that wait in the agent.", sideLabels, nil)
	podWeightDesc      = prometheus.NewDesc("underlane_pod_weight", "A pod's share of the processors while several pods want them.", sideLabels[:2], nil)
	podsOmittedDesc    = prometheus.NewDesc("underlane_pods_without_metrics", "Pods that have no underlane_pod_ metrics, because there are more than may have them.", nil, nil)
)

// podName identifies the series of a pod. Two pods of one name, of which one is being
// deleted, share them.
type podName struct{ namespace, name string }

// podBudget bounds the pods that have metrics. A pod that has them keeps them for as long
// as it is there.
type podBudget struct {
	most int

	mu  sync.Mutex
	has map[podName]bool
}

// admit returns those of the pods that have metrics. Pods that are there for the first time
// get them in the order of the names.
func (b *podBudget) admit(pods []podName) (admitted []podName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := make(map[podName]bool)
	for _, name := range pods {
		if b.has[name] {
			kept[name] = true
		}
	}
	b.has = kept
	for _, name := range pods {
		if b.has[name] || len(b.has) < b.most {
			b.has[name] = true
			admitted = append(admitted, name)
		}
	}
	return admitted
}

// collect exports what pods cost.
func (b *podBudget) collect(out chan<- prometheus.Metric, costs []PodCost) {
	var names []podName
	byName := make(map[podName]*PodCost)
	for _, one := range costs {
		name := podName{one.Namespace, one.Name}
		sum := byName[name]
		if sum == nil {
			sum = new(PodCost)
			byName[name] = sum
			names = append(names, name)
		}
		sum.Weight = max(sum.Weight, one.Weight)
		for i := range sum.Sides {
			sum.Sides[i].add(&one.Sides[i])
		}
	}
	admitted := b.admit(names)
	for _, name := range admitted {
		pod := byName[name]
		gauge(out, podWeightDesc, float64(pod.Weight), name.namespace, name.name)
		for i := range pod.Sides {
			pod.Sides[i].collect(out, name.namespace, name.name, mesh.Direction(i).String())
		}
	}
	gauge(out, podsOmittedDesc, float64(len(names)-len(admitted)))
}

func (c *Cost) add(o *Cost) {
	c.Processor += o.Processor
	c.Waited += o.Waited
	c.Waits += o.Waits
	c.Connections += o.Connections
	c.Descriptors += o.Descriptors
	c.Bytes += o.Bytes
}

func (c *Cost) collect(out chan<- prometheus.Metric, labels ...string) {
	for desc, value := range map[*prometheus.Desc]float64{
		podProcessorDesc: c.Processor.Seconds(), podWaitedDesc: c.Waited.Seconds(), podWaitsDesc: float64(c.Waits),
	} {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, value, labels...)
	}
	gauge(out, podConnectionsDesc, float64(c.Connections), labels...)
	gauge(out, podDescriptorsDesc, float64(c.Descriptors), labels...)
	gauge(out, podBytesDesc, float64(c.Bytes), labels...)
}
