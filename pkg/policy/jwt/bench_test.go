package jwt

import "testing"

// BenchmarkJudge: a token of which the verdict is remembered, and one of which it is not.
func BenchmarkJudge(b *testing.B) {
	v := compiled(b, standard(b))
	for _, name := range []string{"rs", "es", "ed"} {
		h := bearer(signers()[name].token(b, nil))
		b.Run(name+"/known", func(b *testing.B) {
			cache := NewCache[string](9, 1<<20)
			b.ReportAllocs()
			for b.Loop() {
				Judge(v, h, cache, "c", now, false)
			}
		})
		b.Run(name+"/new", func(b *testing.B) {
			cache := NewCache[string](9, 0)
			b.ReportAllocs()
			for b.Loop() {
				Judge(v, h, cache, "c", now, false)
			}
		})
	}
	b.Run("none", func(b *testing.B) {
		cache := NewCache[string](9, 1<<20)
		b.ReportAllocs()
		for b.Loop() {
			Judge(v, Head{Path: "/a?b=c", Fields: nil}, cache, "c", now, false)
		}
	})
}
