package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// leaseName is the Lease with which the replicas elect the one that writes.
const leaseName = "underlane-controller"

// When a leader vanishes, another replica takes over within leaseDuration. A leader
// that stops gracefully releases the lease at once.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// task is work that only the leader does. It ends when ctx ends.
type task func(ctx context.Context) error

// lease lets one of several replicas run the tasks. All replicas serve agents and
// sign certificates; only one writes to the API server.
type lease struct {
	client    kubernetes.Interface
	namespace string
	elect     bool // false: this replica runs the tasks without an election
	tasks     []task
	log       *slog.Logger
	leading   atomic.Bool
	holder    atomic.Pointer[string] // identity of another replica that leads
}

// leader returns the name of the pod that leads, "" if it is not known. The identity of a
// replica begins with it.
func (l *lease) leader() string {
	holder := l.holder.Load()
	if holder == nil {
		return ""
	}
	name, _, _ := strings.Cut(*holder, "_")
	return name
}

// run takes part in elections until ctx ends. After it has lost the lease it
// campaigns again.
func (l *lease) run(ctx context.Context) error {
	if !l.elect {
		l.lead(ctx)
		return ctx.Err()
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	identity := host + "_" + string(uuid.NewUUID())
	for ctx.Err() == nil {
		if err := l.campaign(ctx, identity); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// campaign waits for the lease and leads while it holds it.
func (l *lease) campaign(ctx context.Context, identity string) error {
	begun, done := make(chan struct{}), make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: leaseName, Namespace: l.namespace},
			Client:     l.client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				close(begun)
				defer close(done)
				l.lead(ctx)
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(holder string) {
				l.holder.Store(&holder)
				if holder != identity {
					l.log.Info("another replica leads", "holder", holder)
				}
			},
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	elector.Run(ctx)
	select {
	case <-begun:
		<-done
	default: // this replica never led
	}
	return nil
}

// lead runs the tasks until ctx ends.
func (l *lease) lead(ctx context.Context) {
	l.log.Info("this replica leads")
	l.leading.Store(true)
	defer l.leading.Store(false)
	var g sync.WaitGroup
	for _, do := range l.tasks {
		g.Go(func() {
			if err := do(ctx); err != nil && ctx.Err() == nil {
				l.log.Error("a task of the leader ended", "err", err)
			}
		})
	}
	g.Wait()
	l.log.Info("this replica leads no more")
}
