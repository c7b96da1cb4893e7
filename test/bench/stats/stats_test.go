package stats

import (
	"encoding/json"
	"math"
	"testing"
)

var nan = math.NaN()

func same(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }

func TestMedianAndSpread(t *testing.T) {
	for _, c := range []struct {
		sample         Sample
		median, spread float64
	}{
		{nil, nan, nan},
		{Sample{nan}, nan, nan},
		{Sample{3}, 3, nan},
		{Sample{5, 1, 3}, 3, 4.0 / 3},
		{Sample{4, nan, 2}, 3, 2.0 / 3},
		{Sample{2, 2, 2, 2}, 2, 0},
	} {
		before := len(c.sample)
		if got := c.sample.Median(); !same(got, c.median) {
			t.Errorf("median of %v: %v, want %v", c.sample, got, c.median)
		}
		if got := c.sample.Spread(); !same(got, c.spread) {
			t.Errorf("spread of %v: %v, want %v", c.sample, got, c.spread)
		}
		if len(c.sample) != before {
			t.Error("Median changed the sample, want it unchanged")
		}
	}
}

// TestRatioIsByRound checks that a machine that gets slower from round to round
// does not change a ratio.
func TestRatioIsByRound(t *testing.T) {
	r := Sample{1, 2, 4}.Ratio(Sample{2, 4, 8})
	if r.Median() != 0.5 || r.Spread() != 0 {
		t.Errorf("ratio: got %v, want a median of 0.5 without spread", r)
	}
	if d := (Sample{3, 5, 7}).Minus(Sample{1, 2}); len(d) != 2 || d[0] != 2 || d[1] != 3 {
		t.Errorf("3, 5 and 7 minus 1 and 2: got %v, want 2 and 3", d)
	}
	if r := (Sample{1, 2, 3}).Ratio(Sample{0, 1}); len(r) != 2 || !math.IsNaN(r[0]) || r[1] != 2 {
		t.Errorf("with a zero and a missing round: got %v, want NaN and 2", r)
	}
}

func TestWorse(t *testing.T) {
	for _, c := range []struct {
		ratio Sample
		want  bool
	}{
		{Sample{1.2, 1.2}, false}, // too few rounds
		{Sample{1.2, 1.1, 1.2}, true},
		{Sample{1.2, 0.9, 1.2}, false}, // one of three rounds contradicts
		{Sample{1.2, 0.9, 1.2, 1.1, 1.3}, false},
		{Sample{1.2, 0.9, 1.2, 1.1, 1.3, 1.2, 1.2}, true},
		{Sample{1.01, 1.02, 1.01}, false}, // too small a difference
		{Sample{0.8, 0.7, 0.9}, false},
	} {
		if got := c.ratio.Worse(0.03); got != c.want {
			t.Errorf("Worse of %v: got %v, want %v", c.ratio, got, c.want)
		}
	}
}

func TestJSON(t *testing.T) {
	text, err := json.Marshal(Sample{1.5, nan, 2})
	if string(text) != "[1.5,null,2]" || err != nil {
		t.Fatalf("MarshalJSON: got %s, %v; want [1.5,null,2]", text, err)
	}
	var back Sample
	if err := json.Unmarshal(text, &back); err != nil || len(back) != 3 || back[0] != 1.5 || !math.IsNaN(back[1]) || back[2] != 2 {
		t.Errorf("UnmarshalJSON: got %v, %v; want 1.5, NaN and 2", back, err)
	}
	if err := json.Unmarshal([]byte(`{}`), &back); err == nil {
		t.Error("a JSON object: got no error, want one")
	}
}
