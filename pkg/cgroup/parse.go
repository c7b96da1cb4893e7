package cgroup

import (
	"strconv"
	"strings"
	"time"
)

// number parses a file that is one number. It returns false for anything else, such as
// "max" or "-1".
func number(text string) (n uint64, ok bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	return n, err == nil
}

// keys parses a file with a key and a number on each line. It passes over other lines.
func keys(text string) map[string]uint64 {
	all := make(map[string]uint64)
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if n, isNumber := number(value); ok && isNumber {
			all[key] = n
		}
	}
	return all
}

// pressure parses the line "some" of a file of PSI.
func pressure(text string) (p Pressure, ok bool) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "some" {
			continue
		}
		for _, field := range fields[1:] {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "avg10":
				p.Avg10 = percent(value)
			case "avg60":
				p.Avg60 = percent(value)
			case "total":
				total, _ := number(value)
				p.Total = time.Duration(total) * time.Microsecond
			}
		}
		return p, true
	}
	return p, false
}

func percent(text string) float64 {
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || !(x >= 0 && x <= 100) {
		return 0
	}
	return x
}
