package main

import (
	"fmt"
	"strings"
)

// interval is the range of all rates: Grafana chooses it by the resolution of the panel,
// and at least four scrapes.
const interval = "[$__rate_interval]"

// sum adds a metric up by labels, separated by commas; "" adds all of it.
func sum(by, expr string) string {
	if by == "" {
		return "sum(" + expr + ")"
	}
	return "sum by (" + by + ") (" + expr + ")"
}

// rate is the rate of a counter by labels.
func rate(metric, selector, by string) string {
	return sum(by, "rate("+series(metric, selector)+interval+")")
}

// gauge is the sum of a gauge by labels.
func gauge(metric, selector, by string) string { return sum(by, series(metric, selector)) }

func series(metric, selector string) string {
	if selector == "" {
		return metric
	}
	return metric + "{" + selector + "}"
}

func and(selectors ...string) string { return strings.Join(selectors, ", ") }

// share is the part of a counter's rate that more selects, by labels. It is 0, and not
// nothing, where this part has no series; where there was no traffic, there is no value.
func share(metric, selector, more, by string) string {
	all := rate(metric, selector, by)
	return fmt.Sprintf("(%s or 0 * %s) / (%s > 0)", rate(metric, and(selector, more), by), all, all)
}

// success is the success rate of responses by labels.
func success(selector, by string) string {
	return share("response_total", selector, `classification="success"`, by)
}

// latency is a quantile of a histogram by labels.
func latency(metric string, q float64, selector, by string) string {
	if by != "" {
		by = ", " + by
	}
	return fmt.Sprintf("histogram_quantile(%v, %s)", q, rate(metric+"_bucket", selector, "le"+by))
}

// quantiles are the quantiles that each latency panel has.
func quantiles(metric, selector string) (all []query) {
	for _, q := range []float64{0.5, 0.95, 0.99} {
		all = append(all, query{latency(metric, q, selector, ""), quantileName(q)})
	}
	return all
}

// legend shows labels, separated by commas.
func legend(labels string) string {
	var out []string
	for _, label := range strings.Split(labels, ",") {
		out = append(out, "{{"+strings.TrimSpace(label)+"}}")
	}
	return strings.Join(out, " ")
}

// by is a query with its legend.
func by(labels string, expr func(by string) string) query { return query{expr(labels), legend(labels)} }

// secured selects what mTLS or the kernel vouches for.
const secured = `tls=~"true|same-node"`
