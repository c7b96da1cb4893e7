package api

//go:generate sh generate.sh control/v1/control.proto control/v1/limits.proto control/v1/route.proto
//go:generate sh generate.sh extauth/v1/extauth.proto
