//go:build !race

package destination

const allocSlack = 0
