package mesh

// States of a labelled pod, as its agent reports them and people see them.
const (
	PodEnrolled = "enrolled" // its connections go through the mesh
	PodPending  = "pending"  // being enrolled
	PodFailed   = "failed"   // could not be enrolled; tried again
	PodLeftOut  = "left-out" // cannot be meshed (host network…)
)
