package h2

import (
	"testing"
	"time"
)

func TestGRPCTimeout(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "30S": 30 * time.Second, "1500m": 1500 * time.Millisecond,
		"7u": 7 * time.Microsecond, "12345678n": 12345678, "0S": 0,
	} {
		if got, ok := grpcTimeout(value); got != want || !ok {
			t.Errorf("%s: %v %v", value, got, ok)
		}
	}
	for _, value := range []string{"", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", " 1S", "99999999H"} {
		if got, ok := grpcTimeout(value); ok {
			t.Errorf("%q: %v", value, got)
		}
	}
}
