// Package judged puts what agents say of decisions of authorization policies into answers for
// people: what was decided, and what decides about a call. It is pure.
package judged

import (
	"cmp"
	"fmt"
	"slices"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/tap/wire"
)

// Rows joins what agents have recorded. What the pods of one workload have in common is one
// row; a policy that has decided nothing has a row without calls. seconds is the longest time
// that an agent's counts are of.
func Rows(answers []*agentv1.CallsResponse) (rows []tapv1alpha1.AuthzRow, seconds float64, lost uint64) {
	counts := map[tapv1alpha1.AuthzRow]*tapv1alpha1.AuthzRow{} // by the row without counts
	for _, m := range answers {
		seconds, lost = max(seconds, m.GetSeconds()), lost+m.GetLost()
		for _, j := range m.GetCalls() {
			if int(j.GetPod()) >= len(m.GetPods()) {
				continue
			}
			row := rowOf(m.GetPods()[j.GetPod()])
			setFinding(&row, j.GetJudged())
			row.Client, row.Address, row.Port = j.GetClient(), j.GetAddress(), uint16(j.GetPort())
			row.Method, row.Host, row.Path = j.GetMethod(), j.GetHost(), j.GetPath()
			sum := counts[row]
			if sum == nil {
				sum = new(tapv1alpha1.AuthzRow)
				*sum = row
				counts[row] = sum
			}
			sum.Calls, sum.Failed, sum.Open = sum.Calls+j.GetCalls(), sum.Failed+j.GetFailed(), sum.Open+j.GetOpen()
		}
	}
	decided := map[tapv1alpha1.AuthzRow]bool{}
	for _, row := range counts {
		rows = append(rows, *row)
		decided[named(row)] = true
	}
	for _, m := range answers {
		for _, pod := range m.GetPods() {
			for _, object := range pod.GetObjects() {
				row := rowOf(pod)
				row.Object = object
				if !decided[row] {
					decided[row] = true
					rows = append(rows, row)
				}
			}
		}
	}
	slices.SortFunc(rows, func(a, b tapv1alpha1.AuthzRow) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.Object, b.Object), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Verdict, b.Verdict), cmp.Compare(b.Calls, a.Calls),
			cmp.Compare(a.Client, b.Client), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Host, b.Host))
	})
	return rows, seconds, lost
}

// List is the answer of …/authz.
func List(answers []*agentv1.CallsResponse, nodes tapv1alpha1.Nodes, warnings []string) *tapv1alpha1.AuthzList {
	rows, seconds, lost := Rows(answers)
	if lost > 0 {
		warnings = append(warnings, fmt.Sprintf("%d calls since the agents' start were too different to be told apart: they are not in the rows", lost))
	}
	if rows == nil {
		rows = []tapv1alpha1.AuthzRow{}
	}
	return &tapv1alpha1.AuthzList{
		Kind: "AuthzList", APIVersion: tapv1alpha1.GroupVersion, Seconds: seconds, Nodes: nodes, Warnings: warnings, Items: rows,
	}
}

func rowOf(pod *agentv1.RuledPod) tapv1alpha1.AuthzRow {
	return tapv1alpha1.AuthzRow{Namespace: pod.GetNamespace(), Kind: pod.GetOwnerKind(), Name: pod.GetOwnerName()}
}

// named is a row with the server and the object alone.
func named(row *tapv1alpha1.AuthzRow) tapv1alpha1.AuthzRow {
	return tapv1alpha1.AuthzRow{Namespace: row.Namespace, Kind: row.Kind, Name: row.Name, Object: row.Object}
}

func setFinding(row *tapv1alpha1.AuthzRow, m *agentv1.Judged) {
	f := wire.Finding(m)
	row.Object, row.Rule, row.Verdict, row.Why, row.Audit, row.WouldDeny = f.Object, f.Rule, f.Verdict(), f.Why.String(), f.Audit, f.WouldDeny
}
