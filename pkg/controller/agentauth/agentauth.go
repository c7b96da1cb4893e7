// Package agentauth checks with a Kubernetes token whether the caller is the agent
// of a node.
package agentauth

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	authv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/flowcontrol"
)

const (
	// Audience is the audience that an agent's token must have. A token for the
	// controller is not valid at other servers, and their tokens are not valid here.
	Audience = "underlane.io/controller"
	// ServiceAccount is the service account of the agents.
	ServiceAccount = "underlane-agent"
)

// Keys of the extra fields that the API server returns for a token that is bound to
// a pod. The node is included since Kubernetes 1.30.
const (
	extraNode   = "authentication.kubernetes.io/node-name"
	extraPod    = "authentication.kubernetes.io/pod-name"
	extraPodUID = "authentication.kubernetes.io/pod-uid"
)

const (
	maxToken      = 16 << 10
	reviewTimeout = 8 * time.Second
	// Every pod in the cluster may connect and send tokens. A token that looks like
	// an agent's is sent to the API server at no more than these rates, in total and
	// for one address, so that a pod does not use up the agents' share. Agents have the
	// addresses of nodes, and these have a rate of their own: thousands of agents may start
	// at once, and a pod with an address of its own has no part in it. One on the host's network
	// has that of its node.
	reviewsPerSecond, reviewBurst  = 50, 200
	nodesPerSecond, nodesBurst     = 150, 200
	fromOnePerSecond, fromOneBurst = 0.5, 10
	maxSources                     = 4096
	maxNodes                       = 16384
	// reviewsAtOnce is how many reviews of each kind run at once. An API server that is slow
	// would answer so many in time; of more, all would be too late, and asked for again.
	reviewsAtOnce = 64
)

// Reviewer validates tokens with the API server.
type Reviewer struct {
	client    kubernetes.Interface
	namespace string
	isNode    func(netip.Addr) bool
	nodes     *door
	others    *door
}

// New returns a Reviewer for agents whose pods are in namespace. isNode reports whether a node
// has an address; nil: it is not known of any. client should have no rate of its own.
func New(client kubernetes.Interface, namespace string, isNode func(netip.Addr) bool) *Reviewer {
	if isNode == nil {
		isNode = func(netip.Addr) bool { return false }
	}
	return &Reviewer{
		client: client, namespace: namespace, isNode: isNode,
		nodes: newDoor(nodesPerSecond, nodesBurst, maxNodes), others: newDoor(reviewsPerSecond, reviewBurst, maxSources),
	}
}

// door limits how many tokens are reviewed.
type door struct {
	all  flowcontrol.RateLimiter
	runs chan struct{} // has an element for each review that runs
	most int           // sources

	mu      sync.Mutex
	sources map[netip.Addr]flowcontrol.RateLimiter
}

func newDoor(perSecond float32, burst, most int) *door {
	return &door{all: flowcontrol.NewTokenBucketRateLimiter(perSecond, burst), runs: make(chan struct{}, reviewsAtOnce), most: most, sources: map[netip.Addr]flowcontrol.RateLimiter{}}
}

// admit counts a token against the address that it comes from.
func (d *door) admit(from netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	limit := d.sources[from]
	if limit == nil {
		if len(d.sources) >= d.most {
			clear(d.sources) // all addresses start again; the total limit still applies
		}
		limit = flowcontrol.NewTokenBucketRateLimiter(fromOnePerSecond, fromOneBurst)
		d.sources[from] = limit
	}
	return limit.TryAccept()
}

func (r *Reviewer) username() string {
	return "system:serviceaccount:" + r.namespace + ":" + ServiceAccount
}

// Authenticate returns nil when the token is valid, belongs to the agents' service
// account, has the audience Audience, and is bound to a pod of node. The error is a
// status with code Unavailable when the API server could not be asked, and a
// refusal otherwise.
func (r *Reviewer) Authenticate(ctx context.Context, node, token string) error {
	if err := r.plausible(token); err != nil {
		return err
	}
	door := r.others
	if from := source(ctx); from.IsValid() {
		if r.isNode(from) {
			door = r.nodes
		}
		if !door.admit(from) {
			return status.Error(codes.ResourceExhausted, "too many tokens come from this address")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	if err := door.enter(ctx); err != nil {
		return status.Error(codes.ResourceExhausted, "too many tokens are waiting to be reviewed")
	}
	defer door.leave()
	review, err := r.client.AuthenticationV1().TokenReviews().Create(ctx, &authv1.TokenReview{
		Spec: authv1.TokenReviewSpec{Token: token, Audiences: []string{Audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return status.Errorf(codes.Unavailable, "the API server cannot be asked about the token: %v", err)
	}
	s := review.Status
	switch {
	case !s.Authenticated:
		return fmt.Errorf("the API server does not accept the token: %s", cmp.Or(s.Error, "it is not valid"))
	case !slices.Contains(s.Audiences, Audience):
		return fmt.Errorf("the token is made out to %q, not to %s", s.Audiences, Audience)
	case s.User.Username != r.username():
		return fmt.Errorf("the token is that of %s, not of %s", s.User.Username, r.username())
	}
	bound, err := r.node(ctx, s.User.Extra)
	switch {
	case err != nil:
		return err
	case bound != node:
		return fmt.Errorf("the token is that of an agent on node %s, not on %s", bound, node)
	}
	return nil
}

// source returns the address that a token comes from, the zero Addr where it is not known. An
// agent connects from its node's address, a pod from its own.
func source(ctx context.Context) netip.Addr {
	if p, ok := peer.FromContext(ctx); ok {
		if tcp, ok := p.Addr.(*net.TCPAddr); ok {
			return tcp.AddrPort().Addr().Unmap()
		}
	}
	return netip.Addr{}
}

// enter waits for the turn of a review. leave ends it.
func (d *door) enter(ctx context.Context) error {
	if err := d.all.Wait(ctx); err != nil {
		return err
	}
	select {
	case d.runs <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *door) leave() { <-d.runs }

// plausible refuses a token that cannot be an agent's, to save a call to the API
// server. It does not check the signature: the API server does that for every token
// that passes.
func (r *Reviewer) plausible(token string) error {
	if len(token) > maxToken {
		return fmt.Errorf("the token is longer than %d bytes", maxToken)
	}
	var claims struct {
		Subject  string   `json:"sub"`
		Audience audience `json:"aud"`
		Expiry   float64  `json:"exp"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("the token is no service account token (a JSON Web Token)")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	switch {
	case err != nil:
		return fmt.Errorf("the token is no service account token: %w", err)
	case claims.Subject != r.username():
		return fmt.Errorf("the token is that of %q, not of %s", claims.Subject, r.username())
	case !slices.Contains(claims.Audience, Audience):
		return fmt.Errorf("the token is made out to %q, not to %s", claims.Audience, Audience)
	case claims.Expiry > 0 && time.Now().Unix() > int64(claims.Expiry):
		return errors.New("the token has expired")
	}
	return nil
}

// audience is one name or several (RFC 7519 section 4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// node returns the node of the pod that the token is bound to.
func (r *Reviewer) node(ctx context.Context, extra map[string]authv1.ExtraValue) (string, error) {
	if node := only(extra[extraNode]); node != "" {
		return node, nil
	}
	name, uid := only(extra[extraPod]), only(extra[extraPodUID])
	if name == "" || uid == "" {
		return "", errors.New("the token is bound to no pod: agents need a projected token")
	}
	pod, err := r.client.CoreV1().Pods(r.namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", fmt.Errorf("the token's pod %s is gone", name)
	case err != nil:
		return "", status.Errorf(codes.Unavailable, "the API server cannot be asked about the token's pod: %v", err)
	case string(pod.UID) != uid:
		return "", fmt.Errorf("the token's pod %s is gone: another has its name now", name)
	}
	return pod.Spec.NodeName, nil
}

func only(v authv1.ExtraValue) string {
	if len(v) != 1 {
		return ""
	}
	return v[0]
}
