package prometheus

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// wanted is a query that must have data.
type wanted struct {
	where string // that has it: a panel, a rule
	expr  string // with variables of its dashboard
	board *board // nil: it has no variables
}

// board is a dashboard with the values that its variables can have.
type board struct {
	name      string
	variables []variable
}

// variable is a variable of a dashboard: its values are those that a label of a metric has
// (query), or given (options).
type variable struct {
	name    string
	query   string
	options []string
}

var labelValues = regexp.MustCompile(`^label_values\((.*), *(\S+)\)$`)

// rangeOfRates replaces Grafana's __rate_interval: scrapes come each second, on a machine
// that may be slow.
const rangeOfRates = "30s"

// substitute replaces variables as Grafana does.
func substitute(text string, values map[string]string) string {
	return regexp.MustCompile(`\$\{?\w+\}?`).ReplaceAllStringFunc(text, func(name string) string {
		key := strings.Trim(name, "${}")
		if v, ok := values[key]; ok {
			return v
		}
		return name
	})
}

// each calls f with the values that a dashboard's variables can have together, until it
// returns true.
func (b *board) each(s *server, f func(values map[string]string) (bool, error)) (bool, error) {
	values := map[string]string{"__rate_interval": rangeOfRates}
	if b == nil {
		return f(values)
	}
	var choose func(left []variable) (bool, error)
	choose = func(left []variable) (bool, error) {
		if len(left) == 0 {
			return f(maps.Clone(values))
		}
		v, options := left[0], left[0].options
		if v.query != "" {
			m := labelValues.FindStringSubmatch(substitute(v.query, values))
			if m == nil {
				return false, fmt.Errorf("dashboard %s: the query %q of the variable %s is not label_values(metric, label)", b.name, v.query, v.name)
			}
			var err error
			if options, err = s.values(m[2], m[1]); err != nil {
				return false, fmt.Errorf("dashboard %s: variable %s: %w", b.name, v.name, err)
			}
		}
		for _, value := range options {
			values[v.name] = value
			if done, err := choose(left[1:]); done || err != nil {
				return done, err
			}
		}
		return false, nil
	}
	return choose(b.variables)
}

// missing returns nil if a query has data with some values of the variables.
func (s *server) missing(w wanted) error {
	tried := "no values of its variables"
	found, err := w.board.each(s, func(values map[string]string) (bool, error) {
		tried = substitute(w.expr, values)
		series, err := s.query(tried)
		return len(series) > 0, err
	})
	if err == nil && !found {
		err = fmt.Errorf("no data, last for %s", tried)
	}
	return err
}

// dashboards returns the queries of all panels of the chart's dashboards.
func dashboards(t *testing.T) (all []wanted) {
	t.Helper()
	files, err := filepath.Glob("../../daemonset/chart/underlane/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards in the chart: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Templating struct {
				List []struct {
					Name, Type, Definition, AllValue string
					Options                          []struct{ Value string }
				}
			}
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		b := &board{name: strings.TrimSuffix(filepath.Base(file), ".json")}
		for _, v := range d.Templating.List {
			if v.Type == "datasource" {
				continue
			}
			one := variable{name: v.Name, query: v.Definition}
			for _, o := range v.Options {
				one.options = append(one.options, o.Value)
			}
			if v.AllValue != "" { // all are chosen at first
				one.query, one.options = "", []string{v.AllValue}
			}
			b.variables = append(b.variables, one)
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				all = append(all, wanted{fmt.Sprintf("dashboard %s, panel %q", b.name, p.Title), q.Expr, b})
			}
		}
	}
	return all
}

// threshold is what an alert compares its value with, at the end of its expression.
var threshold = regexp.MustCompile(`\s*(<|>|==|<=|>=)\s*[0-9.]+\s*$`)

// ofRules returns the queries of all rules: alerts without their thresholds.
func ofRules(t *testing.T, rules []rule) (all []wanted) {
	t.Helper()
	for _, r := range rules {
		expr := r.Query
		if r.Type == "alerting" {
			if expr = threshold.ReplaceAllString(r.Query, ""); expr == r.Query {
				t.Errorf("the alert %s compares with no number at the end: %s", r.Name, r.Query)
			}
		} else {
			all = append(all, wanted{where: "what the rule " + r.Name + " records", expr: r.Name})
		}
		all = append(all, wanted{where: "the rule " + r.Name, expr: expr})
	}
	return all
}
