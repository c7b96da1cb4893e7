package main

import "strconv"

// board is a dashboard as its file here describes it.
type board struct {
	name        string // of the file; part of the UID
	title       string
	description string
	variables   []variable
	rows        []row
}

// row is a heading and the panels below it.
type row struct {
	title  string // "": no heading
	panels []tile
}

// tile is a panel without its place.
type tile struct {
	kind        string // stat or timeseries
	title       string
	description string
	unit        string
	width       int // of 24 columns
	max         float64
	steps       []step
	stacked     bool
	queries     []query
}

type query struct{ expr, legend string }

const (
	columns    = 24
	statHeight = 4
	plotHeight = 8
)

// dashboard places the tiles from left to right, row by row.
func (b *board) dashboard() dashboard {
	d := dashboard{
		UID: "underlane-" + b.name, Title: "Underlane / " + b.title, Description: b.description,
		Tags: []string{"underlane"}, SchemaVersion: 39, Editable: true, GraphTooltip: 1, Refresh: "30s",
		Time:       timeRange{"now-1h", "now"},
		Links:      []link{{Title: "Underlane", Type: "dashboards", Tags: []string{"underlane"}, AsDropdown: true, KeepTime: true}},
		Templating: templating{append([]variable{datasource()}, b.variables...)},
	}
	id, y := 0, 0
	for _, r := range b.rows {
		if r.title != "" {
			id++
			d.Panels = append(d.Panels, panel{ID: id, Type: "row", Title: r.title, Collapsed: new(bool), GridPos: gridPos{1, columns, 0, y}})
			y++
		}
		x, height := 0, 0
		for _, t := range r.panels {
			if x+t.width > columns {
				x, y, height = 0, y+height, 0
			}
			id++
			p := t.panel(id)
			p.GridPos.X, p.GridPos.Y = x, y
			d.Panels = append(d.Panels, p)
			x, height = x+t.width, max(height, p.GridPos.H)
		}
		y += height
	}
	return d
}

func (t *tile) panel(id int) panel {
	zero := 0.0
	p := panel{
		ID: id, Type: t.kind, Title: t.title, Description: t.description, Datasource: prometheusSource,
		GridPos:     gridPos{H: plotHeight, W: t.width},
		FieldConfig: &fieldConfig{Defaults: defaults{Unit: t.unit, Min: &zero}, Overrides: []any{}},
	}
	f := &p.FieldConfig.Defaults
	if t.max > 0 {
		f.Max = &t.max
	}
	if t.kind == "stat" {
		p.GridPos.H = statHeight
		f.Thresholds = &thresholds{Mode: "absolute", Steps: t.steps}
		if t.steps == nil {
			f.Thresholds.Steps = []step{{Color: "blue"}}
		}
		p.Options = map[string]any{
			"colorMode": "value", "graphMode": "area", "textMode": "auto", "justifyMode": "auto", "orientation": "auto",
			"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
		}
	} else {
		f.Custom = map[string]any{"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": false}
		if t.stacked {
			f.Custom["fillOpacity"] = 30
			f.Custom["stacking"] = map[string]any{"mode": "normal", "group": "A"}
		}
		p.Options = map[string]any{
			"legend":  map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}},
			"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
		}
	}
	for i, q := range t.queries {
		p.Targets = append(p.Targets, target{
			RefID: string(rune('A' + i)), Datasource: prometheusSource, EditorMode: "code",
			Expr: q.expr, LegendFormat: q.legend, Range: true,
		})
	}
	return p
}

func stat(title, unit string, width int, expr string) tile {
	return tile{kind: "stat", title: title, unit: unit, width: width, queries: []query{{expr, title}}}
}

func plot(title, unit string, width int, queries ...query) tile {
	return tile{kind: "timeseries", title: title, unit: unit, width: width, queries: queries}
}

// about sets what the panel's tooltip says.
func (t tile) about(description string) tile { t.description = description; return t }

// share is for values from 0 to 1.
func (t tile) share() tile { t.max = 1; return t }

// stack draws the lines on top of each other.
func (t tile) stack() tile { t.stacked = true; return t }

// red colours a stat from value on; green below.
func (t tile) red(value float64) tile {
	t.steps = []step{{Color: "green"}, {Color: "red", Value: &value}}
	return t
}

// green colours a stat from value on; red below.
func (t tile) green(value float64) tile {
	t.steps = []step{{Color: "red"}, {Color: "green", Value: &value}}
	return t
}

func datasource() variable {
	return variable{Name: "datasource", Label: "Prometheus", Type: "datasource", Query: "prometheus"}
}

// choice is a variable with the values that a label has.
func choice(name, label, definition string) variable {
	return variable{
		Name: name, Label: label, Type: "query", Datasource: prometheusSource, Definition: definition,
		Query: map[string]string{"query": definition, "refId": "underlane-" + name}, Refresh: 2, Sort: 1,
	}
}

// choices is a variable of which several values may be chosen, at first all. Queries
// compare with =~.
func choices(name, label, definition string) variable {
	v := choice(name, label, definition)
	v.Multi, v.IncludeAll, v.AllValue = true, true, ".*"
	v.Current = &option{Selected: true, Text: "All", Value: "$__all"}
	return v
}

// kinds is a variable with the labels that name a workload by its kind.
func kinds() variable {
	v := variable{Name: "kind", Label: "Kind", Type: "custom"}
	list := ""
	for i, kind := range workloadLabels {
		o := option{Selected: i == 0, Text: kind, Value: kind}
		v.Options = append(v.Options, o)
		list += "," + kind
	}
	v.Query, v.Current = list[1:], &v.Options[0]
	return v
}

var workloadLabels = []string{"deployment", "statefulset", "daemonset", "replicaset", "k8s_job", "k8s_cronjob"}

func quantileName(q float64) string { return "p" + strconv.FormatFloat(100*q, 'f', -1, 64) }
