// Package watch finds the Kubernetes objects that the mesh is made from:
// Cluster asks an API server, Manifests reads a directory.
package watch
