package proc

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseMetric returns the value of a counter without labels in Prometheus' text
// format.
func ParseMetric(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(v), 64)
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}
