// Package watch reads the Kubernetes objects that the mesh uses. Manifests reads
// them from a directory. The package apiserver below it reads them from an API
// server. It is a separate package because it needs client-go, which takes long to
// compile.
package watch
