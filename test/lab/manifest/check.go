package manifest

import (
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
)

// Complete sets the fields that an API server would set.
func Complete(obj metav1.Object) {
	switch o := obj.(type) {
	case *corev1.Namespace:
		// A namespace carries its own name as a label.
		if o.Labels == nil {
			o.Labels = map[string]string{}
		}
		o.Labels[corev1.LabelMetadataName] = o.Name
	default:
		if obj.GetNamespace() == "" && !ofCluster(obj) {
			obj.SetNamespace(metav1.NamespaceDefault)
		}
	}
	if d, ok := obj.(*appsv1.Deployment); ok && d.Spec.Replicas == nil {
		one := int32(1)
		d.Spec.Replicas = &one
	}
	if _, is := obj.(*custom.PolicyObject); is {
		return // its type is that of several kinds
	}
	// The decoder removes the type, but a manifest needs it.
	if kinds, _, err := kinds.ObjectKinds(obj.(runtime.Object)); err == nil {
		obj.(runtime.Object).GetObjectKind().SetGroupVersionKind(kinds[0])
	}
}

// check reports whether the lab knows the kind. Its error says what is wrong with
// the object.
func check(obj metav1.Object) (known bool, err error) {
	if problems := validation.IsDNS1123Subdomain(obj.GetName()); len(problems) > 0 {
		err = fmt.Errorf("metadata.name %q: %s", obj.GetName(), strings.Join(problems, "; "))
	}
	switch o := obj.(type) {
	case *corev1.Pod:
		return true, errors.Join(err, checkPod("spec", &o.Spec))
	case *appsv1.Deployment:
		return true, errors.Join(err, checkDeployment(o))
	case *corev1.Service:
		return true, errors.Join(err, checkService(o))
	case *corev1.Namespace, *corev1.ServiceAccount, *networkingv1.NetworkPolicy, *discoveryv1.EndpointSlice,
		*gatewayv1.HTTPRoute, *gatewayv1.GRPCRoute, *gatewayv1.TLSRoute, *gatewayv1.TCPRoute, *custom.PolicyObject, *custom.EgressNetwork:
		return true, err
	}
	return false, err
}

func checkDeployment(d *appsv1.Deployment) error {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return fmt.Errorf("spec.selector: %w", err)
	}
	if d.Spec.Selector == nil || !selector.Matches(labels.Set(d.Spec.Template.Labels)) {
		err = fmt.Errorf("spec.selector does not match the labels of spec.template")
	}
	if *d.Spec.Replicas < 0 {
		err = errors.Join(err, fmt.Errorf("spec.replicas is %d", *d.Spec.Replicas))
	}
	return errors.Join(err, checkPod("spec.template.spec", &d.Spec.Template.Spec))
}

func checkPod(path string, spec *corev1.PodSpec) error {
	var errs []error
	if len(spec.Containers) == 0 {
		errs = append(errs, fmt.Errorf("%s.containers is empty", path))
	}
	if spec.HostNetwork {
		errs = append(errs, fmt.Errorf("%s.hostNetwork: the lab cannot do this", path))
	}
	if len(spec.InitContainers) > 0 {
		errs = append(errs, fmt.Errorf("%s.initContainers: the lab cannot do this", path))
	}
	names := map[string]bool{}
	for i, c := range spec.Containers {
		at := fmt.Sprintf("%s.containers[%d] (%s)", path, i, c.Name)
		if c.Name == "" || names[c.Name] {
			errs = append(errs, fmt.Errorf("%s: the name is missing or taken", at))
		}
		names[c.Name] = true
		if len(c.Command) == 0 {
			errs = append(errs, fmt.Errorf("%s: no command: the lab has no images, it runs programs of this machine", at))
		}
		if len(c.EnvFrom) > 0 {
			errs = append(errs, fmt.Errorf("%s.envFrom: the lab cannot do this", at))
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.FieldRef == nil {
				errs = append(errs, fmt.Errorf("%s.env %s: of valueFrom the lab knows fieldRef only", at, e.Name))
			}
		}
	}
	return errors.Join(errs...)
}

func checkService(s *corev1.Service) error {
	var errs []error
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		errs = append(errs, fmt.Errorf("spec.type ExternalName: the lab cannot do this"))
	}
	for i, p := range s.Spec.Ports {
		if p.Port < 1 || p.Port > 65535 {
			errs = append(errs, fmt.Errorf("spec.ports[%d].port is %d", i, p.Port))
		}
	}
	if len(s.Spec.Ports) == 0 && s.Spec.ClusterIP != corev1.ClusterIPNone {
		errs = append(errs, fmt.Errorf("spec.ports is empty"))
	}
	return errors.Join(errs...)
}
