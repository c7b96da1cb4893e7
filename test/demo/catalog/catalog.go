// Package catalog is the demo's list of emoji. The proto, the services and the page
// are all made from it.
package catalog

import "strings"

// Doughnut is the emoji whose vote always fails.
const Doughnut = ":doughnut:"

// Emoji is one choice on the ballot.
type Emoji struct {
	Shortcode string // with its colons, such as ":doughnut:"
	Unicode   string // the character itself
}

// Method returns the name of the RPC of VotingService that votes for e, such as
// VotePointUp2 for :point_up_2:.
func (e Emoji) Method() string {
	var b strings.Builder
	b.WriteString("Vote")
	for part := range strings.SplitSeq(strings.Trim(e.Shortcode, ":"), "_") {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

// Find returns the emoji with this shortcode.
func Find(shortcode string) (Emoji, bool) {
	for _, e := range All {
		if e.Shortcode == shortcode {
			return e, true
		}
	}
	return Emoji{}, false
}

// FindMethod returns the emoji that this RPC of VotingService votes for.
func FindMethod(method string) (Emoji, bool) {
	for _, e := range All {
		if e.Method() == method {
			return e, true
		}
	}
	return Emoji{}, false
}

// All is the ballot, in the order of the page. It must not be changed at run time.
var All = []Emoji{
	{Doughnut, "🍩"},
	{":pizza:", "🍕"},
	{":taco:", "🌮"},
	{":burrito:", "🌯"},
	{":ramen:", "🍜"},
	{":sushi:", "🍣"},
	{":avocado:", "🥑"},
	{":bacon:", "🥓"},
	{":cheese:", "🧀"},
	{":cookie:", "🍪"},
	{":beer:", "🍺"},
	{":tropical_drink:", "🍹"},
	{":champagne:", "🍾"},
	{":poop:", "💩"},
	{":joy:", "😂"},
	{":sunglasses:", "😎"},
	{":stuck_out_tongue_winking_eye:", "😜"},
	{":relaxed:", "☺️"},
	{":money_mouth_face:", "🤑"},
	{":flushed:", "😳"},
	{":mask:", "😷"},
	{":nerd_face:", "🤓"},
	{":ghost:", "👻"},
	{":skull_and_crossbones:", "☠️"},
	{":jack_o_lantern:", "🎃"},
	{":robot:", "🤖"},
	{":wave:", "👋"},
	{":ok_hand:", "👌"},
	{":call_me_hand:", "🤙"},
	{":point_up_2:", "👆"},
	{":clap:", "👏"},
	{":pray:", "🙏"},
	{":raising_hand:", "🙋"},
	{":dancer:", "💃"},
	{":no_good:", "🙅"},
	{":man_dancing:", "🕺"},
	{":dog:", "🐶"},
	{":cat2:", "🐈"},
	{":pig:", "🐷"},
	{":hatching_chick:", "🐣"},
	{":octopus:", "🐙"},
	{":crab:", "🦀"},
	{":rocket:", "🚀"},
	{":rainbow:", "🌈"},
	{":fire:", "🔥"},
	{":tada:", "🎉"},
	{":trophy:", "🏆"},
	{":100:", "💯"},
}
