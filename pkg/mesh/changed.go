package mesh

// Changed is a value before and after a change. Before is nil for a new one, and After for one
// that is gone.
type Changed[T any] struct{ Before, After *T }
