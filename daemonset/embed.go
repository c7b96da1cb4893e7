// Package daemonset embeds the Helm chart of Underlane. underlane.yaml is what
// it renders to with its default values.
package daemonset

import "embed"

// Chart holds the chart's files below chart/underlane.
//
//go:embed all:chart
var Chart embed.FS

// ChartRoot is where the chart is in Chart.
const ChartRoot = "chart/underlane"

//go:generate go run ../internal/tools/dashboards
//go:generate go run ../internal/tools/renderchart
