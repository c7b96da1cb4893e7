// Package topui is the live table of `agent top` on a terminal: of traffic, or of what pods
// cost. Update and View depend only on the model and the message.
package topui

import (
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/underlane/underlane/pkg/tap/top"
)

// Refresh is the message that makes the model read the table again.
type Refresh struct{}

const (
	refreshEvery = 250 * time.Millisecond
	scrollStep   = 5
	headerLines  = 4
)

// Table is what a model shows.
type Table interface {
	// Receive takes a message with data. It ignores messages of other types.
	Receive(msg tea.Msg)
	// Lines returns the heading and the rows in an order. mark is appended to the heading
	// of the column by which they are sorted.
	Lines(order top.Order, mark string) []string
	// Columns returns the number of columns.
	Columns() top.Column
	// Notes returns what is shown above the table.
	Notes() []string
}

// Model is the program's state: a bubbletea model.
type Model struct {
	table Table
	order top.Order
	lines []string // of the table, heading first, as last read

	width, height int
	left, first   int // scroll position: columns of text, rows
}

// New returns a model for table. Afterwards only the model may use table.
func New(table Table, order top.Order) Model {
	m := Model{table: table, order: order, width: 80, height: 24}
	m.look()
	return m
}

// Init starts the periodic refresh.
func (m Model) Init() tea.Cmd { return tick() }

func tick() tea.Cmd { return tea.Tick(refreshEvery, func(time.Time) tea.Msg { return Refresh{} }) }

// Update handles events, keys, and the size of the terminal.
func (m Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case Refresh:
		m.look()
		return m, tick()
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		m.scroll(0, 0)
	case tea.KeyPressMsg:
		return m.key(msg.String())
	default:
		m.table.Receive(msg)
	}
	return m, nil
}

func (m Model) key(key string) (tea.Model, tea.Cmd) {
	switch key {
	case "q", "ctrl+c", "esc":
		return m, tea.Quit
	case "left", "a":
		m.scroll(-scrollStep, 0)
	case "right", "d":
		m.scroll(scrollStep, 0)
	case "up", "k":
		m.scroll(0, -1)
	case "down", "j":
		m.scroll(0, 1)
	case "pgup":
		m.scroll(0, -m.page())
	case "pgdown", "space":
		m.scroll(0, m.page())
	case "home":
		m.left, m.first = 0, 0
	case "r":
		m.order.Reverse = !m.order.Reverse
		m.look()
	default:
		m.sortKey(key)
	}
	return m, nil
}

// sortKey handles the keys 1 to 9. A key sorts by its column; the same key again
// reverses the order.
func (m *Model) sortKey(key string) {
	if len(key) != 1 || key[0] < '1' || top.Column(key[0]-'1') >= m.table.Columns() {
		return
	}
	by := top.Column(key[0] - '1')
	m.order = top.Order{By: by, Reverse: m.order.By == by && !m.order.Reverse}
	m.look()
}

func (m *Model) look() {
	mark := "↓"
	if m.order.Reverse {
		mark = "↑"
	}
	m.lines = m.table.Lines(m.order, mark)
	m.scroll(0, 0)
}

func (m *Model) page() int { return max(1, m.height-headerLines) }

func (m *Model) scroll(right, down int) {
	width := 0
	if len(m.lines) > 0 {
		width = lipgloss.Width(m.lines[0])
	}
	m.left = max(0, min(m.left+right, width-m.width))
	m.first = max(0, min(m.first+down, len(m.lines)-1-m.page()))
}

var bold = lipgloss.NewStyle().Bold(true)

// View renders the whole screen.
func (m Model) View() tea.View {
	out := []string{
		m.cut(0, "(press q to quit, 1-9 to sort by a column, r to reverse)"),
		m.cut(0, "(press a/LeftArrowKey to scroll left, d/RightArrowKey to scroll right)"),
		m.cut(0, strings.Join(m.table.Notes(), ", ")),
	}
	for i, line := range m.lines {
		switch {
		case i == 0:
			out = append(out, bold.Render(m.cut(m.left, line)))
		case i > m.first && i <= m.first+m.page():
			out = append(out, m.cut(m.left, line))
		}
	}
	view := tea.NewView(strings.Join(out, "\n"))
	view.AltScreen = true
	return view
}

// cut returns the part of line that is on the screen.
func (m *Model) cut(left int, line string) string {
	runes := []rune(line)
	runes = runes[min(left, len(runes)):]
	return strings.TrimRight(string(runes[:min(m.width, len(runes))]), " ")
}
