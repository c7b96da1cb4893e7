package conformance

import (
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	conformance "sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/kubernetes"
	"sigs.k8s.io/gateway-api/conformance/utils/roundtripper"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

const (
	hostnames   = "it is about sets of hostnames, which meshes ignore"
	listeners   = "it is about a Gateway's listeners"
	grants      = "it is about ReferenceGrants, which nobody needs to reach a Service in a mesh"
	unsupported = "the CORS filter is not supported, and said to be not"
)

// notForMeshes has the suite's tests of HTTPRoutes and GRPCRoutes that have no
// meaning with a Service as the parent.
var notForMeshes = map[string]string{
	"GRPCRouteListenerHostnameMatching":                   hostnames,
	"HTTPRouteHostnameIntersection":                       hostnames,
	"HTTPRouteListenerHostnameMatching":                   hostnames,
	"HTTPRouteDisallowedKind":                             listeners,
	"HTTPRouteHTTPSListener":                              listeners,
	"HTTPRouteHTTPSListenerDetectMisdirectedRequests":     listeners,
	"HTTPRouteInvalidParentRefNotMatchingListenerPort":    listeners,
	"HTTPRouteInvalidParentRefNotMatchingSectionName":     listeners,
	"HTTPRouteInvalidParentRefSectionNameNotMatchingPort": listeners,
	"HTTPRouteListenerPortMatching":                       listeners,
	"HTTPRouteMultipleGateways":                           listeners,
	"HTTPRouteRedirectPortAndScheme":                      listeners,
	"HTTPRouteCrossNamespace":                             grants,
	"HTTPRouteInvalidCrossNamespaceBackendRef":            grants,
	"HTTPRouteInvalidCrossNamespaceParentRef":             grants,
	"HTTPRouteInvalidReferenceGrant":                      grants,
	"HTTPRoutePartiallyInvalidViaInvalidReferenceGrant":   grants,
	"HTTPRouteReferenceGrant":                             grants,
	"HTTPRouteCORS":                                       unsupported,
}

// notInHTTP2 has the tests that the suite's servers do not answer in HTTP/2.
var notInHTTP2 = map[string]string{
	"HTTPRouteBackendProtocolWebSocket": "it upgrades a connection of HTTP/1",
	"HTTPRouteRetry":                    "the server that fails on demand speaks HTTP/1 alone",
}

// TestRoutes runs the tests of routes that the suite has only for gateways, such as
// timeouts, mirrors and matches of gRPC, with a Service in place of the Gateway.
// Tests of HTTPRoutes run again with requests in HTTP/2. TestRoutes itself runs in a
// meshed pod, so that the tests' requests come from there. Retries need the API's
// experimental channel.
func TestRoutes(t *testing.T) {
	opts := patientOptions(t)
	opts.NamespaceLabels = map[string]string{"underlane.io/mesh": "enabled"}
	chosen := forMeshes()
	if opts.RunTest != "" && !slices.ContainsFunc(chosen, func(test suite.ConformanceTest) bool { return test.ShortName == opts.RunTest }) {
		t.Fatalf("-run-test %s: want the name of one of the tests", opts.RunTest)
	}
	opts.SupportedFeatures = everyFeature(chosen)
	s, err := suite.NewConformanceTestSuite(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Applier.ManifestFS = []fs.FS{manifests{conformance.Manifests, forServices}}
	s.Applier.MustApplyWithCleanup(t, s.Client, s.TimeoutConfig, s.BaseManifests, s.Cleanup)
	s.Applier.MustApplyObjectsWithCleanup(t, s.Client, s.TimeoutConfig, []client.Object{service()}, s.Cleanup)
	kubernetes.MeshNamespacesMustBeReady(t, s.Client, s.TimeoutConfig, []string{suite.InfrastructureNamespace})
	t.Run("HTTP1", func(t *testing.T) {
		if err := s.Run(t, chosen); err != nil {
			t.Error(err)
		}
	})
	t.Run("HTTP2", func(t *testing.T) {
		// The Services lead to the HTTP/2 port of the same servers.
		s.Applier.ManifestFS = []fs.FS{manifests{conformance.Manifests, forHTTP2}}
		s.Applier.MustApplyWithCleanup(t, s.Client, s.TimeoutConfig, s.BaseManifests, false)
		s.RoundTripper = inHTTP2{s.RoundTripper}
		again := slices.DeleteFunc(slices.Clone(chosen), func(test suite.ConformanceTest) bool {
			return !strings.HasPrefix(test.ShortName, "HTTPRoute") || notInHTTP2[test.ShortName] != ""
		})
		if err := s.Run(t, again); err != nil {
			t.Error(err)
		}
	})
}

// inHTTP2 makes all requests in HTTP/2 with prior knowledge.
type inHTTP2 struct{ roundtripper.RoundTripper }

func (h inHTTP2) CaptureRoundTrip(r roundtripper.Request) (*roundtripper.CapturedRequest, *roundtripper.CapturedResponse, error) {
	r.Protocol = roundtripper.H2CPriorKnowledgeProtocol
	return h.RoundTripper.CaptureRoundTrip(r)
}

// forMeshes returns the suite's tests that make sense for meshes.
func forMeshes() (chosen []suite.ConformanceTest) {
	for _, test := range tests.ConformanceTests {
		if !strings.HasPrefix(test.ShortName, "HTTPRoute") && !strings.HasPrefix(test.ShortName, "GRPC") || notForMeshes[test.ShortName] != "" {
			continue
		}
		if os.Getenv("GATEWAY_API_CHANNEL") != "experimental" && slices.Contains(test.Features, features.SupportHTTPRouteRetry) {
			continue
		}
		chosen = append(chosen, atService(test))
	}
	return chosen
}

// atService returns the same test with a Service in place of the Gateway.
func atService(test suite.ConformanceTest) suite.ConformanceTest {
	gateways := []features.FeatureName{features.SupportGateway, features.SupportReferenceGrant}
	test.Features = slices.DeleteFunc(slices.Clone(test.Features), func(f features.FeatureName) bool {
		return slices.Contains(gateways, f)
	})
	run := test.Test
	test.Test = func(t *testing.T, s *suite.ConformanceTestSuite) {
		s.Client, s.ControllerName = standIn{s.Client}, "underlane.io/controller"
		run(t, s)
	}
	return test
}

// TestNotForMeshes checks that all names in the list are tests of the suite.
func TestNotForMeshes(t *testing.T) {
	for _, name := range slices.Concat(slices.Collect(maps.Keys(notForMeshes)), slices.Collect(maps.Keys(notInHTTP2))) {
		if !slices.ContainsFunc(tests.ConformanceTests, func(test suite.ConformanceTest) bool { return test.ShortName == name }) {
			t.Errorf("the suite has no test %s, want only names of its tests", name)
		}
	}
}
