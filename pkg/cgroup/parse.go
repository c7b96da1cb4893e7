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

// keyed is a file with a key and a number on each line.
type keyed string

// get returns the number of a key. It returns false if there is none.
func (k keyed) get(key string) (n uint64, ok bool) {
	for line := range strings.Lines(string(k)) {
		if name, value, _ := strings.Cut(line, " "); name == key {
			return number(value)
		}
	}
	return 0, false
}

// of is get, and 0 if there is no number.
func (k keyed) of(key string) uint64 {
	n, _ := k.get(key)
	return n
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
