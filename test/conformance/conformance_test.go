// Package conformance runs the Gateway API's conformance suite against
// Underlane on a real cluster: see docs/conformance.md.
package conformance

import (
	"io/fs"
	"os"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	conformance "sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	meshtests "sigs.k8s.io/gateway-api/conformance/tests/mesh"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
	"sigs.k8s.io/yaml"
)

// TestConformance runs all tests of the suite for meshes. It takes the suite's own
// flags, such as -run-test and -report-output.
func TestConformance(t *testing.T) {
	opts := patientOptions(t)
	opts.ManifestFS = []fs.FS{manifests{ReadFileFS: conformance.Manifests}}
	opts.NamespaceLabels = map[string]string{"underlane.io/mesh": "enabled"}
	opts.ConformanceProfiles = []suite.ConformanceProfileName{
		suite.MeshHTTPConformanceProfileName, suite.MeshGRPCConformanceProfileName,
	}
	opts.SupportedFeatures = everyFeature(meshtests.MeshConformanceTests)
	opts.Implementation = confv1.Implementation{
		Organization: "underlane",
		Project:      "underlane",
		URL:          "https://github.com/underlane/underlane",
		Version:      os.Getenv("UNDERLANE_VERSION"),
		Contact:      []string{"https://github.com/underlane/underlane/issues"},
	}
	s, err := suite.NewConformanceTestSuite(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Setup(t, meshtests.MeshConformanceTests)
	t.Cleanup(func() { report(t, s, opts.ReportOutputPath) })
	if err := s.Run(t, meshtests.MeshConformanceTests); err != nil {
		t.Error(err)
	}
}

// patientOptions returns the suite's own options, with longer timeouts where the
// suite's are shortest, for a busy machine.
func patientOptions(t *testing.T) suite.ConformanceOptions {
	opts := conformance.DefaultOptions(t)
	for _, d := range []*time.Duration{
		&opts.TimeoutConfig.DeleteTimeout, &opts.TimeoutConfig.GetTimeout,
		&opts.TimeoutConfig.ManifestFetchTimeout, &opts.TimeoutConfig.MaxTimeToConsistency,
	} {
		*d = max(*d, time.Minute)
	}
	return opts
}

// everyFeature returns all features for meshes and all that a test asks for, so
// that no test is left out.
func everyFeature(tests []suite.ConformanceTest) []features.FeatureName {
	all := features.SetsToNamesSet(features.MeshCoreFeatures, features.MeshExtendedFeatures)
	for _, test := range tests {
		all.Insert(test.Features...)
	}
	return sets.List(all)
}

// report writes the suite's report. Only a complete run has one.
func report(t *testing.T, s *suite.ConformanceTestSuite, path string) {
	if path == "" {
		return
	}
	r, err := s.Report()
	if err != nil {
		t.Error(err)
		return
	}
	text, err := yaml.Marshal(r)
	if err != nil {
		t.Error(err)
		return
	}
	t.Logf("the report, in %s:\n%s", path, text)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Error(err)
	}
}
