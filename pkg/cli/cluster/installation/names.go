// Package installation is what the commands know of Underlane in a cluster: the
// names of its objects, how far their rollout is, and which versions run.
package installation

// DefaultNamespace is where Underlane is installed unless a flag says otherwise.
const DefaultNamespace = "underlane-system"

// Names of the objects that are installed.
const (
	Controller = "underlane-controller"
	Agent      = "underlane-agent"
	Issuer     = "underlane-identity-issuer"
	Anchors    = "underlane-trust-anchors"
	Config     = "underlane-config" // records the values that the user set
)

// Labels of everything that belongs to an installation.
const (
	PartOfLabel = "app.kubernetes.io/part-of"
	PartOf      = "underlane"
	NameLabel   = "app.kubernetes.io/name" // Controller or Agent
)

// Selector selects the pods of an installation.
const Selector = PartOfLabel + "=" + PartOf
