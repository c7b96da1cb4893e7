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
			t.Errorf("FindMethod(%s) = %+v, %v; want %s", e.Method(), got, ok, e.Shortcode)
		}
		if got, ok := Find(e.Shortcode); !ok || got != e {
			t.Errorf("Find(%s) = %+v, %v; want %+v, listed once", e.Shortcode, got, ok, e)
		}
	}
	if _, ok := Find(":nope:"); ok {
		t.Error("an emoji that is not on the ballot: found, want not found")
	}
}
