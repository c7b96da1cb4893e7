// Package issuer keeps the mesh's issuer in a Secret, which all replicas of the
// controller share, and its trust anchors in a ConfigMap for the agents.
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

// announce is the time between the publication of a new issuer's anchors and the
// first use of the issuer. Running agents receive the anchors within a second. A
// mounted ConfigMap, which starting agents read, has them within a minute or two.
const announce = 30 * time.Second

// Options configure a Keeper. All fields but External are required.
type Options struct {
	Client    kubernetes.Interface
	Namespace string
	Authority *ca.Authority // the authority that the Keeper updates
	External  bool          // the user provides the issuer's Secret: the Keeper never creates or changes it
	Log       *slog.Logger
}

// Keeper keeps an Authority equal to the content of the Secret and the ConfigMap.
type Keeper struct {
	opt     Options
	secret  *object[*corev1.Secret]
	anchors *object[*corev1.ConfigMap]
	wake    chan struct{} // signals Run that an object changed
	lead    chan struct{} // signals Lead likewise
	ready   chan struct{}
	changes chan struct{}

	mu      sync.Mutex
	problem string
	since   time.Time // start of the announcement of an issuer
	next    []byte    // certificate of the announced issuer; nil when there is none
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

// Changes returns a channel that receives after the Authority changed.
func (k *Keeper) Changes() <-chan struct{} { return k.changes }

// Problem returns why the Secret or the ConfigMap cannot be used, "" when both can.
// The Authority then continues with their previous content.
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

// Run keeps the Authority current until ctx ends, and then returns ctx's error.
// Every replica runs it.
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

// apply updates the Authority. While an issuer is being announced it returns the
// time that remains.
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
	if problem != "" && problem != k.problem && (k.opt.External || k.secret.exists()) { // otherwise the leader is about to create it
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
			// The old issuer's anchors stay while it still signs.
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

// put gives the Authority the issuer and the anchors, if it does not use them yet.
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

// announcing reports whether the announcement of issuer has begun and is not over:
// its anchors are published, but not for long enough.
func (k *Keeper) announcing(issuer ca.Issuer) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return bytes.Equal(k.next, issuer.Cert().Raw)
}

// wait starts the announcement of issuer if necessary, and returns the time that
// remains.
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

// read returns the content of the Secret and the ConfigMap.
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

// former returns the anchors of the ConfigMap, or those in use if there is no
// ConfigMap.
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
