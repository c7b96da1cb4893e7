package translate_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mesh"
)

// TestAPolicyJudgesWhatItSelects: of 600 pods of a namespace those that a policy selects, or has
// selected, are judged anew, and no others.
func TestAPolicyJudgesWhatItSelects(t *testing.T) {
	const apps, each = 200, 3
	own := func(app, action string) *custom.PolicyObject {
		return policyObject("policy.underlane.io/v1alpha1", "AuthorizationPolicy", "own", `{"targetRefs":[{"group":"","kind":"Pod","selector":{"matchLabels":{"app":"`+app+`"}}}],"action":"`+action+`","rules":[{"sources":[{"type":"ServiceAccount","serviceAccount":{"name":"x"}}]}]}`)
	}
	istio := func(app, action string) *custom.PolicyObject {
		return policyObject("security.istio.io/v1", "AuthorizationPolicy", "istio", `{"selector":{"matchLabels":{"app":"`+app+`"}},"action":"`+action+`","rules":[{"from":[{"source":{"namespaces":["a"]}}]}]}`)
	}
	peers := func(app, mode string) *custom.PolicyObject {
		return policyObject("security.istio.io/v1", "PeerAuthentication", "peers", `{"selector":{"matchLabels":{"app":"`+app+`"}},"mtls":{"mode":"`+mode+`"}}`)
	}
	limitsOf := func(app string) *custom.PolicyObject {
		return policyObject("policy.underlane.io/v1alpha1", "RateLimitPolicy", "limits", `{"scope":"Cluster","targetRefs":[{"group":"","kind":"Pod","selector":{"matchLabels":{"app":"`+app+`"}}}],"limits":[{"requests":10}]}`)
	}
	service := func(port int32) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "s"}, Spec: corev1.ServiceSpec{ClusterIP: "10.9.0.1", Ports: []corev1.ServicePort{{Port: port}}}}
	}
	linkerd := func(kind, name, spec string) *custom.PolicyObject {
		return policyObject("policy.linkerd.io/v1beta3", kind, name, spec)
	}
	server := func(app string) *custom.PolicyObject {
		return linkerd("Server", "srv-"+app, `{"podSelector":{"matchLabels":{"app":"`+app+`"}},"port":80}`)
	}
	of := func(app, authentication string) *custom.PolicyObject {
		return linkerd("AuthorizationPolicy", "of-"+app, `{"targetRef":{"group":"policy.linkerd.io","kind":"Server","name":"srv-`+app+`"},"requiredAuthenticationRefs":[{"group":"policy.linkerd.io","kind":"MeshTLSAuthentication","name":"`+authentication+`"}]}`)
	}
	authentication := func(name, identity string) *custom.PolicyObject {
		return linkerd("MeshTLSAuthentication", name, `{"identities":["`+identity+`"]}`)
	}
	isolated := func(app string) *networkingv1.NetworkPolicy {
		return &networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "np"}, Spec: networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}},
		}
	}
	web := func(app string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web"}, Spec: corev1.ServiceSpec{ClusterIP: "10.9.0.2", Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Port: 80}}}}
	}
	target := policyObject("security.istio.io/v1", "AuthorizationPolicy", "target", `{"targetRefs":[{"kind":"Service","group":"","name":"web"}],"action":"DENY","rules":[{"from":[{"source":{"namespaces":["a"]}}]}]}`)
	route := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "r"}, Spec: gatewayv1.HTTPRouteSpec{
		CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Group: ptr[gatewayv1.Group]("policy.linkerd.io"), Kind: ptr[gatewayv1.Kind]("Server"), Name: "srv-app-21"}}},
	}}
	tr := translate.New(translate.Config{TrustDomain: "td"})
	all := translate.Batch{Changes: []translate.Change{{Object: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{mesh.LabelMesh: mesh.LabelEnabled}}}}}}
	for i := range apps * each {
		name := fmt.Sprint("p", i)
		all.Changes = append(all.Changes, translate.Change{Object: &translate.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name, UID: types.UID(name), Labels: map[string]string{"app": fmt.Sprint("app-", i/each)}},
			Spec:       translate.PodSpec{NodeName: fmt.Sprint("n", i%10)},
			Status:     translate.PodStatus{PodIP: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)},
		}})
	}
	tr.Apply(all)
	for _, step := range []struct {
		what    string
		objects []metav1.Object
		gone    bool
		changed int // workloads or their policies
	}{
		{"the first policy", []metav1.Object{own("app-1", "ALLOW")}, false, each},
		{"another one", []metav1.Object{istio("app-2", "ALLOW")}, false, each},
		{"it selects others", []metav1.Object{istio("app-3", "ALLOW")}, false, 2 * each},
		{"limits", []metav1.Object{limitsOf("app-9")}, false, each},
		{"another action", []metav1.Object{own("app-1", "DENY")}, false, each},
		{"who must have an identity", []metav1.Object{peers("app-4", "STRICT")}, false, each},
		{"a Service that no policy is about", []metav1.Object{service(80)}, false, 0},
		{"several at once", []metav1.Object{own("app-5", "ALLOW"), peers("app-6", "STRICT")}, false, 4 * each},
		{"one is gone", []metav1.Object{own("app-5", "ALLOW")}, true, each},
		{"two Servers of Linkerd", []metav1.Object{server("app-20"), server("app-21")}, false, 2 * each},
		{"who may connect to one", []metav1.Object{of("app-20", "one"), authentication("one", "x.a.serviceaccount.identity.linkerd.td")}, false, each},
		{"others may", []metav1.Object{authentication("one", "y.a.serviceaccount.identity.linkerd.td")}, false, each},
		{"an authentication that no policy names", []metav1.Object{authentication("two", "y.a.serviceaccount.identity.linkerd.td")}, false, 0},
		{"a route of a Server", []metav1.Object{route}, false, each},
		{"a Server is gone", []metav1.Object{server("app-20")}, true, each},
		{"a NetworkPolicy", []metav1.Object{isolated("app-30")}, false, each},
		{"it selects others", []metav1.Object{isolated("app-31")}, false, 2 * each},
		{"a policy for a Service that is not there", []metav1.Object{target}, false, 0},
		{"the Service comes", []metav1.Object{web("app-40")}, false, each},
		{"it has other pods", []metav1.Object{web("app-41")}, false, 2 * each},
		{"limits for others", []metav1.Object{limitsOf("app-10")}, false, 2 * each},
		{"the last ones are gone", []metav1.Object{istio("app-3", "ALLOW"), peers("app-6", "STRICT")}, true, 2 * each},
	} {
		var b translate.Batch
		for _, o := range step.objects {
			b.Changes = append(b.Changes, translate.Change{Object: o, Gone: step.gone})
		}
		before := tr.Work()
		c := tr.Apply(b)
		uids := map[string]bool{}
		for uid := range c.Authz {
			uids[uid] = true
		}
		for _, w := range c.Workloads {
			uids[w.After.UID] = true
		}
		if len(uids) != step.changed {
			t.Errorf("%s: %d pods have changed, want %d", step.what, len(uids), step.changed)
		}
		if work := tr.Work() - before; int(work) > 2*step.changed+8 {
			t.Errorf("%s: %d values are computed, for %d pods", step.what, work, step.changed)
		}
	}
	if tr.Misread() > 0 {
		t.Error("values were read too early")
	}
}

func ptr[T any](v T) *T { return &v }

func policyObject(version, kind, name, spec string) *custom.PolicyObject {
	return &custom.PolicyObject{
		TypeMeta: metav1.TypeMeta{APIVersion: version, Kind: kind}, ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}, Spec: []byte(spec),
	}
}
