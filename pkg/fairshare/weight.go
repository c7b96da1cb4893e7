package fairshare

// Weights of accounts. Under contention, accounts get time in proportion to their weights.
// The numbers are those of cpu.weight of cgroup v2 (Linux, cgroup-v2.rst, "CPU"), whose
// default is 100 too.
//
// The bounds are narrower than the 1 to 10,000 of cgroups: a pod without a request for
// processors has the weight 1, and nearly no time beside one that requests many. Its
// clients would see that as an outage. Between MinWeight and MaxWeight the ratio is 100 at
// most.
const (
	DefaultWeight = 100
	MinWeight     = 5
	MaxWeight     = 500
)

// SetWeight sets the account's weight, which is DefaultWeight before. A weight out of
// bounds is brought into them. It applies to the time that is used after the account was
// last served. The nil Account has no weight.
func (a *Account) SetWeight(weight int) {
	if a != nil {
		a.weight.Store(int64(min(max(weight, MinWeight), MaxWeight)))
	}
}

// Weight returns the account's weight. That of the nil Account is DefaultWeight.
func (a *Account) Weight() int {
	if a == nil {
		return DefaultWeight
	}
	if w := a.weight.Load(); w != 0 {
		return int(w)
	}
	return DefaultWeight
}

// cost returns by how much the account's virtual time advances for an amount of time that
// it has used, both in nanoseconds.
func (a *Account) cost(used int64) int64 { return used * DefaultWeight / int64(a.Weight()) }
