package main

// The types of a Grafana dashboard, as far as the dashboards use them: schema version 39,
// Grafana 10.3 and later.

type dashboard struct {
	UID           string     `json:"uid"`
	Title         string     `json:"title"`
	Description   string     `json:"description"`
	Tags          []string   `json:"tags"`
	SchemaVersion int        `json:"schemaVersion"`
	Editable      bool       `json:"editable"`
	GraphTooltip  int        `json:"graphTooltip"` // 1: all panels share the crosshair
	Refresh       string     `json:"refresh"`
	Time          timeRange  `json:"time"`
	Links         []link     `json:"links"`
	Templating    templating `json:"templating"`
	Panels        []panel    `json:"panels"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// link is a menu of all dashboards with a tag.
type link struct {
	Title       string   `json:"title"`
	Type        string   `json:"type"`
	Tags        []string `json:"tags"`
	AsDropdown  bool     `json:"asDropdown"`
	IncludeVars bool     `json:"includeVars"`
	KeepTime    bool     `json:"keepTime"`
}

type templating struct {
	List []variable `json:"list"`
}

type source struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// prometheusSource is the data source that the user chose.
var prometheusSource = &source{Type: "prometheus", UID: "${datasource}"}

type variable struct {
	Name       string   `json:"name"`
	Label      string   `json:"label"`
	Type       string   `json:"type"` // datasource, query or custom
	Datasource *source  `json:"datasource,omitempty"`
	Query      any      `json:"query"`
	Definition string   `json:"definition,omitempty"`
	Refresh    int      `json:"refresh,omitempty"` // 2: when the time range changes
	Sort       int      `json:"sort,omitempty"`    // 1: by name
	Multi      bool     `json:"multi,omitempty"`
	IncludeAll bool     `json:"includeAll,omitempty"`
	AllValue   string   `json:"allValue,omitempty"`
	Current    *option  `json:"current,omitempty"`
	Options    []option `json:"options,omitempty"`
}

type option struct {
	Selected bool   `json:"selected"`
	Text     string `json:"text"`
	Value    string `json:"value"`
}

type panel struct {
	ID          int          `json:"id"`
	Type        string       `json:"type"` // row, stat or timeseries
	Title       string       `json:"title"`
	Description string       `json:"description,omitempty"`
	Datasource  *source      `json:"datasource,omitempty"`
	GridPos     gridPos      `json:"gridPos"`
	Collapsed   *bool        `json:"collapsed,omitempty"` // of a row
	Panels      []panel      `json:"panels,omitempty"`    // of a collapsed row
	FieldConfig *fieldConfig `json:"fieldConfig,omitempty"`
	Options     any          `json:"options,omitempty"`
	Targets     []target     `json:"targets,omitempty"`
}

type gridPos struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type target struct {
	RefID        string  `json:"refId"`
	Datasource   *source `json:"datasource"`
	EditorMode   string  `json:"editorMode"`
	Expr         string  `json:"expr"`
	LegendFormat string  `json:"legendFormat"`
	Range        bool    `json:"range"`
}

type fieldConfig struct {
	Defaults  defaults `json:"defaults"`
	Overrides []any    `json:"overrides"`
}

type defaults struct {
	Unit       string         `json:"unit,omitempty"`
	Min        *float64       `json:"min,omitempty"`
	Max        *float64       `json:"max,omitempty"`
	Decimals   *int           `json:"decimals,omitempty"`
	Thresholds *thresholds    `json:"thresholds,omitempty"`
	Custom     map[string]any `json:"custom,omitempty"`
}

type thresholds struct {
	Mode  string `json:"mode"`
	Steps []step `json:"steps"`
}

type step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"` // null: from the lowest on
}
