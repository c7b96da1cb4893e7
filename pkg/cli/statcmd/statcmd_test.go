package statcmd

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for args, want := range map[string]string{
		"deploy":                 "deployment",
		"deploy/":                "deployment",
		"deploy/web":             "deployment web",
		"deploy web api":         "deployment web,api",
		"po/a deploy/web po/b":   "pod a,b; deployment web",
		"deploy sts/db":          "deployment; statefulset db",
		"deploy/ po/":            "deployment; pod",
		"ns":                     "namespace",
		"svc web svc":            "service web,svc", // names, as kubectl takes them
		"all":                    "deployment; statefulset; daemonset; replicaset; job; cronjob; pod; service",
		"web":                    "error",
		"deploy/web api":         "error",
		"deploy Not_A_Name":      "error",
		"deploy/web deploy/x/y ": "error",
	} {
		kinds, err := parse(strings.Fields(args))
		var texts []string
		for _, k := range kinds {
			texts = append(texts, strings.TrimSpace(string(k.Kind)+" "+strings.Join(k.Names, ",")))
		}
		got := strings.Join(texts, "; ")
		if err != nil {
			got = "error"
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("stat %s (-want +got):\n%s", args, diff)
		}
	}
}
