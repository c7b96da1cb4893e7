// Package watch finds the Kubernetes objects that the mesh is made from: Manifests
// reads a directory. Its package apiserver asks an API server instead; it stands
// alone because it needs client-go, which takes long to compile.
package watch
