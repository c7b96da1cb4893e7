package catalog

import "testing"

func TestMethod(t *testing.T) {
	for shortcode, want := range map[string]string{
		":doughnut:":       "VoteDoughnut",
		":point_up_2:":     "VotePointUp2",
		":100:":            "Vote100",
		":jack_o_lantern:": "VoteJackOLantern",
	} {
		e, ok := Find(shortcode)
		if !ok || e.Method() != want {
			t.Errorf("%s: found %v, method %q, want %q", shortcode, ok, e.Method(), want)
		}
	}
}

func TestEveryMethodLeadsBackToItsEmoji(t *testing.T) {
	for _, e := range All {
		if got, ok := FindMethod(e.Method()); !ok || got != e {
			t.Errorf("%s: method %s leads to %+v (%v)", e.Shortcode, e.Method(), got, ok)
		}
		if got, ok := Find(e.Shortcode); !ok || got != e {
			t.Errorf("%s: listed twice, or not found: %+v (%v)", e.Shortcode, got, ok)
		}
	}
	if _, ok := Find(":nope:"); ok {
		t.Error("an emoji that is not on the ballot: found, want not found")
	}
}
