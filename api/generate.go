package api

//go:generate sh generate.sh control/v1/control.proto
