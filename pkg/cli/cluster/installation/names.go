// Package installation describes an installation in a cluster for the commands: the
// names of its objects, the progress of its rollout, and the running versions.
package installation

// DefaultNamespace is the namespace of the installation unless a flag names
// another.
const DefaultNamespace = "underlane-system"

// Names of the installed objects.
const (
	Controller = "underlane-controller"
	Agent      = "underlane-agent"
	Issuer     = "underlane-identity-issuer"
	Anchors    = "underlane-trust-anchors"
	Config     = "underlane-config" // records the values that the user set
)

// Labels of all objects of an installation.
const (
	PartOfLabel = "app.kubernetes.io/part-of"
	PartOf      = "underlane"
	NameLabel   = "app.kubernetes.io/name" // Controller or Agent
)

// Selector selects the pods of an installation.
const Selector = PartOfLabel + "=" + PartOf
