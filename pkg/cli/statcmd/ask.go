package statcmd

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// answer is what was found for one kind.
type answer struct {
	rows     []*table.StatRow
	warnings []string
	missing  []string // what was asked for by name and is not known
	err      error
}

// askAll asks for all kinds at once, because an agent that does not answer delays each
// answer. usage adds what containers use. It returns the rows of each kind that has some,
// each warning once, and a sentence for each name that is not known.
func (s *Source) askAll(ctx context.Context, kinds []*table.Stat, usage bool) (tables [][]*table.StatRow, warnings, missing []string, err error) {
	answers := make([]answer, len(kinds))
	var asking sync.WaitGroup
	for i, k := range kinds {
		asking.Go(func() { answers[i] = s.askOne(ctx, k, usage) })
	}
	asking.Wait()
	for _, a := range answers {
		if a.err != nil {
			return nil, nil, nil, a.err
		}
		if len(a.rows) > 0 {
			tables = append(tables, a.rows)
		}
		missing = append(missing, a.missing...)
		for _, text := range a.warnings {
			if !slices.Contains(warnings, text) {
				warnings = append(warnings, text)
			}
		}
	}
	return tables, warnings, missing, nil
}

func (s *Source) askOne(ctx context.Context, k *table.Stat, usage bool) answer {
	if table.IsRoute(k.Kind) {
		return s.askRoutes(ctx, k)
	}
	f, warnings, err := s.ask(ctx, k.Query())
	if err != nil {
		return answer{err: err}
	}
	a := answer{rows: k.Rows(f), warnings: warnings, missing: s.missing(k, f)}
	if usage && len(a.rows) > 0 {
		a.warnings = append(a.warnings, s.use(ctx, k, a.rows)...)
	}
	return a
}

// missing says which names are not known. The history has names of the past, and agents do not
// know all Services.
func (s *Source) missing(k *table.Stat, f *tapv1alpha1.Figures) (texts []string) {
	if f.History || k.Kind == filter.KindService && s.Namespace == nil {
		return nil
	}
	for _, name := range k.Missing(f) {
		text := fmt.Sprintf("no pod of %s/%s is known", k.Kind, name)
		if k.Kind == filter.KindService {
			text = fmt.Sprintf("there is no %s/%s", k.Kind, name)
		}
		if k.Namespace != "" {
			text += " in namespace " + k.Namespace
		}
		texts = append(texts, text)
	}
	return texts
}

// ask gets the figures, and returns what is missing in them as warnings.
func (s *Source) ask(ctx context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.Figures, []string, error) {
	f, err := s.Figures(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	if q.Window > tapv1alpha1.AgentsRemember && !f.History {
		return nil, nil, s.noHistory(&q)
	}
	warnings := f.Warnings
	if f.History && f.CoveredSeconds < int(f.End.Sub(f.Start)/time.Second) {
		warnings = append(slices.Clip(warnings), fmt.Sprintf("figures are known of %v of the time from %s on: rates are of that", time.Duration(f.CoveredSeconds)*time.Second, f.Start.Local().Format(time.DateTime)))
	}
	return f, warnings, nil
}

// noHistory says why there are no figures of a long time.
func (s *Source) noHistory(q *tapv1alpha1.FiguresQuery) error {
	why := "the controller keeps no history (its value controller.history.enabled), or is of an older version"
	switch {
	case s.Namespace == nil:
		why = "underlane stat asks the controller, which keeps a history"
	case q.By == tapv1alpha1.ByPod, isPod(q.Kind), isPod(q.To), isPod(q.From):
		why = "the history of the controller is by workload, not by pod"
	}
	return fmt.Errorf("--time-window %v: agents remember %v; %s", q.Window, tapv1alpha1.AgentsRemember, why)
}

// use adds to rows what their resources use, and returns warnings. Without an answer the rows
// stay as they are: the user may lack the right to see that alone.
func (s *Source) use(ctx context.Context, k *table.Stat, rows []*table.StatRow) (warnings []string) {
	q, ok := k.UsageQuery()
	if s.Resources == nil || !ok {
		return nil
	}
	list, err := s.Resources(ctx, q)
	if err != nil {
		return []string{"what containers use is not known: " + err.Error()}
	}
	table.AddUsage(rows, list)
	return list.Warnings
}
