package translate

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

func TestParsePorts(t *testing.T) {
	for in, want := range map[string][]mesh.PortRange{
		"":                   nil,
		" ":                  nil,
		"25":                 {{First: 25, Last: 25}},
		"25, 3306,9000-9100": {{First: 25, Last: 25}, {First: 3306, Last: 3306}, {First: 9000, Last: 9100}},
		"1-65535":            {{First: 1, Last: 65535}},
		"7-7":                {{First: 7, Last: 7}},
	} {
		got, err := parsePorts(in)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v %s", in, err, diff)
		}
	}
	for _, in := range []string{",", "0", "65536", "-1", "1-", "-", "5-4", "http", "1,,2", "1-2-3", "+5", "0x10", "1;2"} {
		if got, err := parsePorts(in); err == nil {
			t.Errorf("%q: got %v", in, got)
		}
	}
}

func FuzzParsePorts(f *testing.F) {
	f.Add("25,3306,9000-9100")
	f.Add("1-65536")
	f.Fuzz(func(t *testing.T, in string) {
		ranges, err := parsePorts(in)
		for _, r := range ranges {
			if r.First == 0 || r.First > r.Last {
				t.Errorf("%q: %v", in, r)
			}
		}
		if err != nil && ranges != nil {
			t.Errorf("%q: both %v and %v", in, ranges, err)
		}
	})
}
