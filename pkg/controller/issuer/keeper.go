// Package issuer keeps the mesh's issuer in a Secret, shared by all replicas of
// the controller, and its trust anchors in a ConfigMap for the agents.
package issuer

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/underlane/underlane/pkg/controller/watch/apiserver"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

// announce is the time between the publication of a new issuer's anchors and its first
// use. Running agents learn the anchors within a second; a mounted ConfigMap, which
// starting agents read, has them within a minute or two.
const announce = 30 * time.Second

// Options configure a Keeper. All but External are needed.
type Options struct {
	Client    kubernetes.Interface
	Namespace string
	Authority *ca.Authority // kept current
	External  bool          // the Secret is the user's: never made or changed here
	Log       *slog.Logger
}

// Keeper keeps an Authority equal to what Secret and ConfigMap say.
type Keeper struct {
	opt     Options
	secret  *object[*corev1.Secret]
	anchors *object[*corev1.ConfigMap]
	wake    chan struct{} // an object changed: for Run
	lead    chan struct{} // the same, for Lead
	ready   chan struct{}
	changes chan struct{}

	mu      sync.Mutex
	problem string
	since   time.Time // of the announcement of an issuer; zero when there is none
	next    []byte    // key of the announced issuer
}

// New returns a Keeper that does nothing before Run.
func New(opt Options) *Keeper {
	k := &Keeper{
		opt: opt, wake: make(chan struct{}, 1), lead: make(chan struct{}, 1),
		ready: make(chan struct{}), changes: make(chan struct{}, 1),
	}
	k.secret, k.anchors = newObject[*corev1.Secret](k.changed), newObject[*corev1.ConfigMap](k.changed)
	return k
}

// Ready is closed when the Authority has its first issuer.
func (k *Keeper) Ready() <-chan struct{} { return k.ready }

// Changes receives after the Authority changed.
func (k *Keeper) Changes() <-chan struct{} { return k.changes }

// Problem says why Secret or ConfigMap cannot be used, "" when they can. The
// Authority then goes on with what they said before.
func (k *Keeper) Problem() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.problem
}

func (k *Keeper) changed() {
	signal(k.wake)
	signal(k.lead)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run keeps the Authority current until ctx ends, and then returns its error.
// Every replica does it.
func (k *Keeper) Run(ctx context.Context) error {
	core := k.opt.Client.CoreV1().RESTClient()
	var g sync.WaitGroup
	defer g.Wait()
	for _, r := range []struct {
		resource, name string
		object         any
		store          cache.ReflectorStore
	}{
		{"secrets", SecretName, &corev1.Secret{}, k.secret},
		{"configmaps", AnchorsName, &corev1.ConfigMap{}, k.anchors},
	} {
		lw := cache.NewListWatchFromClient(core, r.resource, k.opt.Namespace, fields.OneTermEqualSelector("metadata.name", r.name))
		g.Go(func() { apiserver.Reflect(ctx, r.name, lw, r.object, r.store) })
	}
	for {
		var announced <-chan time.Time
		if wait := k.apply(time.Now()); wait > 0 {
			announced = time.After(wait)
		}
		select {
		case <-k.wake:
		case <-announced:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// apply brings the Authority up to date. When an issuer has yet to be announced
// it returns for how long.
func (k *Keeper) apply(now time.Time) time.Duration {
	if !k.secret.filled() || !k.anchors.filled() {
		return 0
	}
	wait, err := k.use(now)
	k.mu.Lock()
	defer k.mu.Unlock()
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	if problem != "" && problem != k.problem && (k.opt.External || k.secret.exists()) { // else the leader is making it
		k.opt.Log.Error("the identity issuer cannot be used: going on with the one before, if there was one", "err", err)
	}
	k.problem = problem
	return wait
}

func (k *Keeper) use(now time.Time) (time.Duration, error) {
	issuer, own, before, err := k.read()
	if err != nil {
		return 0, err
	}
	a := k.opt.Authority
	old, has := a.Issuer()
	anchors := bundle(now, own, before)
	if has && issuer.LeadsTo(a.Anchors()) != nil || k.announcing(issuer) {
		if wait := k.wait(now, issuer); wait > 0 {
			// The old issuer's anchors stay for as long as it signs.
			err := k.put(old, ca.Distinct(append(anchors, a.Anchors()...)))
			return wait, err
		}
	}
	if err := k.put(issuer, anchors); err != nil {
		return 0, err
	}
	k.announced()
	select {
	case <-k.ready:
	default:
		close(k.ready)
	}
	return 0, nil
}

// put makes the Authority use what it does not use yet.
func (k *Keeper) put(issuer ca.Issuer, anchors []*x509.Certificate) error {
	a := k.opt.Authority
	before := a.AnchorsPEM()
	old, has := a.Issuer()
	if has && bytes.Equal(old.ChainPEM(), issuer.ChainPEM()) && bytes.Equal(before, ca.EncodePEM(anchors...)) {
		return nil
	}
	if err := a.Use(issuer, anchors); err != nil {
		return err
	}
	k.opt.Log.Info("identity issuer", "subject", issuer.Cert().Subject.String(), "expires", issuer.Cert().NotAfter, "anchors", len(anchors))
	signal(k.changes)
	return nil
}

// announcing reports whether issuer is being announced: its anchors are known
// by now, but not for long enough.
func (k *Keeper) announcing(issuer ca.Issuer) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return bytes.Equal(k.next, issuer.Cert().Raw)
}

// wait begins the announcement of issuer, or returns how long it still takes.
func (k *Keeper) wait(now time.Time, issuer ca.Issuer) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !bytes.Equal(k.next, issuer.Cert().Raw) {
		k.next, k.since = issuer.Cert().Raw, now
		k.opt.Log.Info("another identity issuer: its anchors are told first", "subject", issuer.Cert().Subject.String(), "inUse", now.Add(announce))
	}
	return announce - now.Sub(k.since)
}

func (k *Keeper) announced() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next = nil
}

// read returns what the Secret and the ConfigMap say.
func (k *Keeper) read() (issuer ca.Issuer, own, before []*x509.Certificate, err error) {
	secret, ok := k.secret.get()
	if !ok {
		return issuer, nil, nil, fmt.Errorf("there is no Secret %s/%s", k.opt.Namespace, SecretName)
	}
	if issuer, own, err = parseSecret(secret); err != nil {
		return issuer, nil, nil, err
	}
	before, err = k.former()
	return issuer, own, before, err
}

// former are the anchors of the ConfigMap; where there is none, those in use.
func (k *Keeper) former() ([]*x509.Certificate, error) {
	cm, ok := k.anchors.get()
	if !ok {
		return k.opt.Authority.Anchors(), nil
	}
	certs, err := ca.ParseAnchors([]byte(cm.Data[AnchorsKey]))
	if err != nil {
		return nil, fmt.Errorf("%s of ConfigMap %s: %w", AnchorsKey, AnchorsName, err)
	}
	return certs, nil
}
